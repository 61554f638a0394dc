"""Which workers are kept? One per spec and options, and as few as the test at hand needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pytest_llmperf.backends import Backend, BackendOptions, EngineFacts
from pytest_llmperf.child import Undead
from pytest_llmperf.models import ModelFiles, ModelSpec
from pytest_llmperf.worker.errors import WorkerError, exit_name
from pytest_llmperf.worker.host import Tick, Worker
from pytest_llmperf.worker.messages import Load, Loaded


@dataclass(frozen=True)
class Loading:
    """Everything that decides what is loaded; equal loadings share one worker."""

    spec: ModelSpec
    files: ModelFiles | None
    backend: Backend
    options: BackendOptions
    timeout_s: float

    @property
    def key(self) -> str:
        """The same text for the same model, backend and options."""
        chosen = msgspec.to_builtins(self.options)
        return json.dumps([msgspec.to_builtins(self.spec), self.backend.name, chosen])


@dataclass
class LoadedModel:
    """A model in a worker, ready to be measured. ``load_model`` returns one."""

    loading: Loading
    worker: Worker
    version: str
    """Version of the engine."""
    import_s: float
    load_s: float
    engine: EngineFacts
    invocation: int
    requests: int = 0
    """Requests that this worker has answered so far."""
    load_peak_bytes: int | None = None
    """Peak resident memory up to the end of the load, once somebody has read it."""

    @property
    def files(self) -> ModelFiles | None:
        """The model's files: format, size, quantization as it really is; None: needs none."""
        return self.loading.files

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self.loading.backend.name

    @property
    def options(self) -> Mapping[str, object]:
        """Every engine option in force."""
        return self.engine.options


class WorkerPool:
    """The workers of one pytest process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._models: dict[str, LoadedModel] = {}
        self._used: set[str] = set()
        self.bad_exits: list[str] = []
        """Workers that ended badly when nothing was asked of them; told at the end of the run."""

    def load(self, loading: Loading, tick: Tick | None = None) -> LoadedModel:
        """A loaded model, kept from before or fresh. Raises WorkerError."""
        kept = self._models.get(loading.key)
        if kept is not None and kept.worker.alive:
            self._used.add(loading.key)
            return kept
        for key in [key for key in self._models if key not in self._used or key == loading.key]:
            self._drop(key)
        return self._start(loading, 0, tick)

    def fresh(self, loading: Loading, invocation: int, tick: Tick | None = None) -> LoadedModel:
        """The same in a new process; every other worker gives its memory back first."""
        self.close()
        return self._start(loading, invocation, tick)

    def end_test(self) -> None:
        """Keep only the worker used last: the next test may ask for the same."""
        for key in list(self._models)[:-1]:
            self._drop(key)
        self._used.clear()

    def close(self) -> None:
        """End every worker."""
        for key in list(self._models):
            self._drop(key)

    def _start(self, loading: Loading, invocation: int, tick: Tick | None) -> LoadedModel:
        name = f"worker-{self._count:03d}-{loading.backend.name}"
        self._count += 1
        worker = Worker(loading.backend.name, self._folder, name)
        message = Load(
            backend=loading.backend.name,
            model=loading.files,
            options=msgspec.to_builtins(loading.options),
            invocation=invocation,
        )
        try:
            answer = worker.ask(message, loading.timeout_s, tick)
            if not isinstance(answer, Loaded):
                raise WorkerError(f"{loading.backend.name} worker answered Load with {answer!r}")
        except BaseException:
            worker.kill()
            raise
        model = LoadedModel(
            loading=loading,
            worker=worker,
            version=answer.version,
            import_s=answer.import_ns / 1e9,
            load_s=answer.load_ns / 1e9,
            engine=answer.engine,
            invocation=invocation,
        )
        self._models[loading.key] = model
        self._used.add(loading.key)
        return model

    def _drop(self, key: str) -> None:
        worker = self._models.pop(key).worker
        already_reported = worker.ended
        try:
            exit_code = worker.close()
        except Undead as error:
            self.bad_exits.append(f"{worker.backend} worker: {error}; log: {worker.log}")
            return
        if not already_reported and exit_code != 0:
            self.bad_exits.append(
                f"{worker.backend} worker did not leave well after its work "
                f"({exit_name(exit_code)}); log: {worker.log}"
            )
