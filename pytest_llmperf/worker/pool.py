"""Which workers are kept? One per spec and options, and as few as the test at hand needs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pytest_llmperf.backends import AllocatorPeak, BackendOptions, EngineFacts, adapter_path
from pytest_llmperf.child import Undead
from pytest_llmperf.ending import exit_name
from pytest_llmperf.hardware.gpu_lease import GpuLeases, Seat
from pytest_llmperf.hardware.gpu_watch import GpuSnapshot
from pytest_llmperf.hardware.lease import cpu_lease
from pytest_llmperf.models import ModelFiles
from pytest_llmperf.worker.errors import WorkerError
from pytest_llmperf.worker.host import Tick, Worker
from pytest_llmperf.worker.loading import LoadFacts, Loading, load_facts, page_cache
from pytest_llmperf.worker.messages import Load, Loaded
from pytest_llmperf.worker.peaks import TreeMemory, read_tree
from pytest_llmperf.worker.surroundings import Surroundings


@dataclass
class LoadedModel:
    """A model in a worker, ready to be measured. ``load_model`` returns one."""

    loading: Loading
    worker: Worker
    version: str
    """Version of the engine."""
    load: LoadFacts
    engine: EngineFacts
    invocation: int
    load_memory: TreeMemory
    """Peaks of the worker and its children up to the end of the load."""
    load_devices: list[AllocatorPeak]
    """What the engine's allocator took of each GPU up to the end of the load."""
    idle: GpuSnapshot | None = None
    """The GPUs before the worker was started; None: there are none, or they were not read."""
    seat: Seat | None = None
    """The GPUs that are its own until the worker has ended; None: it computes on the CPU."""
    has_read: bool = False
    """Whether it read a text: what that left in its memory must not be another test's."""
    requests: int = 0
    """Requests that this worker has answered so far."""

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

    def __init__(
        self,
        folder: Path,
        surroundings: Surroundings | None = None,
        gpus: GpuLeases | None = None,
    ) -> None:
        """``folder`` takes the logs; ``surroundings`` looks at the machine around each worker.

        ``gpus``: what is taken for each worker; None: nobody else is on this machine.
        """
        self._folder = folder
        self._surroundings = surroundings
        self._gpus = gpus
        self._count = 0
        self._models: dict[str, LoadedModel] = {}
        self._used: set[str] = set()
        self._has_undead = False
        """Whether an engine of this pool may still hold what it had."""
        self.bad_exits: list[str] = []
        """What went wrong when nothing was asked; told at the end of the run."""

    def wants_gpus(self, options: BackendOptions) -> bool:
        """Whether what is loaded like this is expected to compute on GPUs and leave the CPU."""
        return self._gpus is not None and options.gpus() != 0 and self._gpus.leaves_the_cpu

    @contextlib.contextmanager
    def turn_to_load(
        self, loading: Loading, tick: Tick | None = None, *, fresh: bool = False
    ) -> Iterator[None]:
        """Have to ourselves what a load disturbs, or is disturbed by; ``fresh``: of :meth:`fresh`.

        First the GPUs, for which nobody may wait while he holds the CPU: their holder may need
        it. Raises LeaseError.
        """
        if fresh:
            self.end_workers()
        elif not self.has(loading):
            self.make_room(loading.key)
            if not self._models and not self._used:
                self._leave_gpus()  # the test before may have held more than this one needs
        try:
            kept = self.has(loading)
            seat = self._models[loading.key].seat if kept else self._take_gpus(loading, tick)
            with _cpu(seat, tick):
                yield
        finally:
            self._leave_gpus()

    def turn_to_measure(
        self, model: LoadedModel, tick: Tick | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Have the CPU for a timed section, whose GPUs the model has already. Raises LeaseError."""
        return _cpu(model.seat, tick)

    def load(self, loading: Loading, tick: Tick | None = None) -> LoadedModel:
        """A loaded model, kept from before or fresh. Raises WorkerError."""
        if self.has(loading):
            self._used.add(loading.key)
            return self._models[loading.key]
        self.make_room(loading.key)
        return self._start(loading, 0, tick)

    def has(self, loading: Loading) -> bool:
        """Whether a worker is there that has loaded exactly this."""
        kept = self._models.get(loading.key)
        return kept is not None and kept.worker.alive

    def make_room(self, key: str = "") -> None:
        """End the workers that this test has not asked for, and the one of ``key``."""
        for each in [each for each in self._models if each not in self._used or each == key]:
            self._drop(each)

    def fresh(self, loading: Loading, invocation: int, tick: Tick | None = None) -> LoadedModel:
        """The same in a new process; every other worker gives its memory back first."""
        self.end_workers()
        return self._start(loading, invocation, tick)

    def give_up(self, loading: Loading) -> None:
        """End the worker of this, if there is one."""
        if loading.key in self._models:
            self._drop(loading.key)

    def end_test(self, *, keep: bool = True) -> None:
        """Keep only the worker used last, and none that read: the next test may ask for it.

        ``keep``: whether there is a next one that may; if not, no GPU is held for it.
        """
        last = list(self._models)[-1:]
        for key, model in list(self._models.items()):
            is_waited_for = model.seat is not None and not keep
            if key not in last or model.has_read or is_waited_for:
                self._drop(key)
        self._used.clear()
        self._leave_gpus()

    def end_workers(self) -> None:
        """End every worker, and keep the GPUs: a test's next one is measured on the same."""
        for key in list(self._models):
            self._drop(key)

    def close(self) -> None:
        """End every worker, and leave the GPUs."""
        self.end_workers()
        self._leave_gpus()

    def _start(self, loading: Loading, invocation: int, tick: Tick | None) -> LoadedModel:
        name = f"worker-{self._count:03d}-{loading.backend.name}"
        self._count += 1
        seat = self._take_gpus(loading, tick)
        around, alone = self._surroundings, not self._models
        idle = None if around is None else around.before_start(loading, seat, alone=alone)
        cached = page_cache(loading.files)
        worker = Worker(loading.backend.name, self._folder, name, loading.python, seat)
        try:
            model = _load(worker, loading, invocation, tick, cached)
        except BaseException:
            worker.kill()
            self._leave_gpus()
            raise
        on_cpu = model.engine.device == "cpu"
        model.idle = None if on_cpu else idle
        model.seat = None if on_cpu else seat
        self._models[loading.key] = model
        self._used.add(loading.key)
        if model.seat is None:
            self._leave_gpus()
        return model

    def _take_gpus(self, loading: Loading, tick: Tick | None) -> Seat | None:
        if self._gpus is None:
            return None
        on_wait = _telling(tick, "for a GPU that others use, or wait for")
        return self._gpus.take(loading.options.gpus(), on_wait, alone=not self._models)

    def _leave_gpus(self) -> None:
        """Unless a worker computes on them. One that does not has inherited them all the same.

        What an engine that did not die inherited stays taken.
        """
        if self._gpus is not None and all(each.seat is None for each in self._models.values()):
            may_free = self._models and not self._has_undead
            self._gpus.free() if may_free else self._gpus.leave()

    def _drop(self, key: str) -> None:
        model = self._models.pop(key)
        worker = model.worker
        already_reported = worker.ended
        try:
            exit_code = worker.close()
        except Undead as error:
            self.bad_exits.append(f"{worker.backend} worker: {error}; log: {worker.log}")
            self._has_undead = True
            return
        if not already_reported and exit_code != 0:
            self.bad_exits.append(
                f"{worker.backend} worker did not leave well after its work "
                f"({exit_name(exit_code)}); log: {worker.log}"
            )
        if self._surroundings is not None and not self._models:
            # Not earlier: another model's memory would be taken for what this one left behind.
            kept = self._surroundings.after_end(model.idle)
            if kept is not None:
                self.bad_exits.append(kept)


def _cpu(seat: Seat | None, tick: Tick | None) -> contextlib.AbstractContextManager[None]:
    """Alone, unless GPUs compute that share nothing with it."""
    shared = seat is not None and seat.leaves_the_cpu
    on_wait = _telling(tick, "for another measurement on this machine")
    return cpu_lease(shared=shared, on_wait=on_wait)


def _telling(tick: Tick | None, what: str) -> Callable[[], None] | None:
    return None if tick is None else lambda: tick(f"waits {what}")


def _load(
    worker: Worker,
    loading: Loading,
    invocation: int,
    tick: Tick | None,
    cached: tuple[float | None, str | None],
) -> LoadedModel:
    """Have a fresh worker load; ``cached``: the page cache before. Raises WorkerError."""
    message = Load(
        adapter=adapter_path(loading.backend),
        model=loading.files,
        options=msgspec.to_builtins(loading.options),
        invocation=invocation,
    )
    answer = worker.ask(message, loading.timeout_s, tick)
    if not isinstance(answer, Loaded):
        raise WorkerError(f"{loading.backend.name} worker answered Load with {answer!r}")
    return LoadedModel(
        loading=loading,
        worker=worker,
        version=answer.version,
        load=load_facts(answer, cached, loading.files),
        engine=answer.engine,
        invocation=invocation,
        load_memory=read_tree(worker.pid),
        load_devices=answer.devices,
    )
