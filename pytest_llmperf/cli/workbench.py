"""With what do the commands measure, and what becomes of what goes wrong?"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from pytest_llmperf.backends import find_backend, installed_version
from pytest_llmperf.backends.registry import BackendError
from pytest_llmperf.child import Undead
from pytest_llmperf.cli.answer import NOTHING, TOOL_FAILED, USAGE, complain
from pytest_llmperf.cli.progress import Progress
from pytest_llmperf.fit.before_load import DoesNotFit, require_room_at_most
from pytest_llmperf.gate.baseline import BaselineError
from pytest_llmperf.gate.budget import BadLimit
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.gpu_lease import GpuLeases
from pytest_llmperf.hardware.lease import LeaseError, cpu_lease
from pytest_llmperf.measure import Instruments, Measurement, Plan, Workload, measure
from pytest_llmperf.measure.assessing import assess
from pytest_llmperf.measure.reading import BadText, TextRequest
from pytest_llmperf.measure.stored_reference import Head, store
from pytest_llmperf.models import ModelError, ModelSpec, ModelUnavailable
from pytest_llmperf.models.hub import find_snapshot
from pytest_llmperf.worker.errors import EngineNotInstalled, EngineRefusal, WorkerError
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.pool import WorkerPool

_ABSENT = (ModelUnavailable, EngineNotInstalled, DoesNotFit)
_REFUSED = (ValueError, BackendError, BadLimit, EngineRefusal, ModelError, BadText)
_BROKEN = (WorkerError, LeaseError, Undead, BaselineError)
TROUBLES = (*_ABSENT, *_REFUSED, *_BROKEN)
"""What a user is told in one message."""


def exit_code_of(trouble: BaseException) -> int:
    """Of a command that ended for it; see :func:`pytest_llmperf.cli.main`."""
    if isinstance(trouble, _ABSENT):
        return NOTHING
    return USAGE if isinstance(trouble, _REFUSED) else TOOL_FAILED


def give_up(command: str, trouble: BaseException) -> int:
    """Say what went wrong; the exit code."""
    complain(f"pytest-llmperf {command}: {str(trouble) or 'interrupted'}")
    return exit_code_of(trouble)


class Workbench(contextlib.AbstractContextManager["Workbench"]):
    """Workers, what watches them, and a folder for their logs, which go when all went well."""

    def __init__(self, command: str, hardware: Hardware) -> None:
        self.hardware = hardware
        self.say = Progress(command)
        self.workers = 0
        """How many were started."""
        self._folder = Path(tempfile.mkdtemp(prefix=f"pytest-llmperf-{command}-"))
        self._instruments = Instruments(hardware)
        gpus = GpuLeases.of(hardware.gpus, os.environ)
        self._pool = WorkerPool(self._folder, self._instruments, gpus)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything; logs that are named to the user stay."""
        try:
            self._pool.close()
        finally:
            self._instruments.close()
        self.say("")
        for trouble in self._pool.bad_exits:
            complain(f"note: {trouble}")
        has_told_a_log = isinstance(error, WorkerError) and not isinstance(error, _REFUSED)
        if not self._pool.bad_exits and not has_told_a_log:
            shutil.rmtree(self._folder, ignore_errors=True)

    def prepare(
        self,
        spec: ModelSpec,
        backend: str | None,
        given: Mapping[str, object],
        *,
        timeout_s: float,
        python: str | None = None,
    ) -> Loading:
        """Find the model's files, or build them; ``backend`` None: by the files.

        Raises ModelError, BackendError, EngineNotInstalled, WorkerError.
        """
        adapter, chosen = choose(backend or default_backend(spec.source), given, python)
        if python is None:
            require_room_at_most(spec, adapter, chosen, self.hardware)
        waits = "waits for another measurement on this machine"
        shared = self._pool.wants_gpus(chosen)
        with cpu_lease(shared=shared, on_wait=lambda: self.say(waits)):
            return prepare(
                spec,
                adapter,
                chosen,
                timeout_s=timeout_s,
                python=python,
                progress=lambda stage, part: self.say(f"{stage} {part:.0%}"),
            )

    def measure(  # noqa: PLR0913 - the last three are for some commands only
        self,
        loading: Loading,
        workload: Workload,
        plan: Plan,
        *,
        invocation: int = 0,
        what: str = "",
        name: str = "",
        text: str | None = None,
    ) -> Measurement:
        """In a worker of its own. Others may measure on this machine before the next one.

        ``what`` is shown meanwhile; ``text`` is read afterwards. Raises WorkerError, LeaseError,
        BadText.
        """
        told = f"{what}: " if what else ""

        def say(detail: str) -> None:
            self.say(told + detail)

        try:
            with self._pool.turn_to_load(loading, say, fresh=True):
                say("load")
                model = self._pool.fresh(loading, invocation, say)
                self.workers += 1
            with self._pool.turn_to_measure(model, say):
                seen = measure(model, workload, plan, self._instruments, name=name, progress=say)
                if text is None or seen.invalid is not None:
                    return seen
                return assess(model, None, seen, TextRequest(text), plan.timeout_s, say)
        finally:
            self._pool.end_workers()

    def store(self, loading: Loading, text: TextRequest, target: Path, timeout_s: float) -> Head:
        """Keep what a model says of a text. Raises LeaseError, and as :func:`store`."""
        with self._pool.turn_to_load(loading, self.say):
            try:
                return store(self._pool.load(loading, self.say), text, target, timeout_s, self.say)
            finally:
                self._pool.close()


def default_backend(source: str) -> str:
    """The backend that loads these files; for one that is made here the first that is installed.

    Raises ModelUnavailable, and InvalidSource, for a model of the hub.
    """
    if ModelSpec(source).is_synthetic:
        installed = installed_version(find_backend("llama-cpp")) is not None
        return "llama-cpp" if installed else "transformers"
    path = find_snapshot(source) if source.startswith("hf:") else Path(source).expanduser()
    if path.suffix == ".gguf" or (path.is_dir() and any(path.glob("*.gguf"))):
        return "llama-cpp"
    return "transformers"
