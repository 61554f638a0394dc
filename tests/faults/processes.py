"""How does a test start real workers and real pytest runs, strike them, and see what is left?"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from pytest_llmperf.backends import Request
from pytest_llmperf.identity import Identity
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.board import Board
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.messages import Generate, Generated
from pytest_llmperf.worker.pool import LoadedModel

MARK = "LLMPERF_TEST_FAMILY"
"""Environment variable by which a test knows every process that it caused."""

VOCABULARY = 32000

ONE_THREAD = {
    "llama-cpp": {"n_threads": 1},
    "transformers": {"num_threads": 1},
    "onnxruntime": {"intra_op_num_threads": 1},
}
"""What a test asks for that does not say. An engine's threads wait for each other by spinning: as
many as there are cores, on a busy machine, make milliseconds into seconds."""
GONE_WITHIN_S = 5.0
_POLL_S = 0.0005

GRANDCHILD = """
import subprocess, sys
if "pytest_llmperf.worker" in sys.orig_argv:
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    subprocess.Popen([sys.executable, "-S", "-c", ignore])
"""
"""Python's site hook that gives every worker a helper which ignores SIGTERM."""

CRASH_AT_EXIT = """
import atexit, os, signal, sys
if "pytest_llmperf.worker" in sys.orig_argv:
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
"""
"""Python's site hook that lets every worker crash when it leaves."""


class Family:
    """All processes with one mark in their environment, however they are related."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    def alive(self) -> list[psutil.Process]:
        """The living; a zombie has no environment any more, and counts as dead."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != os.getpid() and self._is_marked(process)
        ]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False

    def survivors(self, after_s: float = GONE_WITHIN_S) -> list[psutil.Process]:
        """Who is still alive after so many seconds; nobody as soon as all are dead."""
        deadline = time.monotonic() + after_s
        while (alive := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return alive

    def wait_for(self, count: int) -> None:
        """Wait for so many; a process that is just being started shows no environment yet."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while len(alive := self.alive()) != count:
            assert time.monotonic() < deadline, [process.cmdline() for process in alive]
            time.sleep(0.01)

    def kill(self) -> None:
        """Leave nothing behind, whatever the test found."""
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def loading(
    backend_name: str,
    *,
    source: str = "synthetic:llama-15m",
    quantization: str | None = None,
    timeout_s: float = 60.0,
    interpreter: str | None = None,
    **options: object,
) -> Loading:
    """What ``load_model`` makes of its arguments; ``interpreter``: of the worker, if not ours."""
    given = ONE_THREAD.get(backend_name, {}) | options
    backend, chosen = choose(backend_name, given, interpreter)
    spec = ModelSpec(source, quantization)
    return prepare(spec, backend, chosen, timeout_s=timeout_s, python=interpreter)


def prompt(tokens: int, seed: int = 0) -> list[int]:
    """Token ids that are the same for the same seed."""
    return random.Random(seed).choices(range(VOCABULARY), k=tokens)


def generate(
    model: LoadedModel, ids: list[int], new_tokens: int, timeout_s: float = 60.0
) -> Generated:
    """One request of one sequence to a worker."""
    return answer_to(model, Request(prompts=[ids], new_tokens=new_tokens), timeout_s)


def answer_to(model: LoadedModel, request: Request, timeout_s: float = 60.0) -> Generated:
    """The worker's answer."""
    answer = model.worker.ask(Generate(request=request), timeout_s)
    assert isinstance(answer, Generated)
    return answer


def wait_for_phase(folder: Path, phase: str, number: int = 0, timeout_s: float = 60.0) -> int:
    """Wait until worker ``number`` of the pool or run in ``folder`` is in ``phase``; its pid."""
    deadline = time.monotonic() + timeout_s
    while (record := _find_record(folder, number)) is None:
        assert time.monotonic() < deadline, f"no worker {number} in {folder}"
        time.sleep(_POLL_S)
    board = Board(record.with_suffix(".board"), create=False)
    try:
        while not board.describe().startswith(phase):
            assert time.monotonic() < deadline, f"{board.describe()}, never {phase}"
            time.sleep(_POLL_S)
    finally:
        board.close()
    return msgspec.json.decode(record.read_bytes(), type=Identity).pid


def _find_record(folder: Path, number: int) -> Path | None:
    name = f"worker-{number:03d}-*.json"
    for pattern in (name, f".pytest_cache/d/llmperf-runs/**/{name}"):
        for path in folder.glob(pattern):
            if path.stat().st_size:
                return path
    return None


@contextlib.contextmanager
def signal_in(folder: Path, phase: str, number: signal.Signals) -> Iterator[None]:
    """While the block runs, send its first worker a signal as soon as that is in ``phase``."""

    def strike() -> None:
        os.kill(wait_for_phase(folder, phase), number)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def add_site_hook(folder: Path, code: str) -> str:
    """Write ``code`` where Python runs it at its start; the value for PYTHONPATH."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(code)
    return str(site)


_NOT_THEIRS = ("PYTEST_", "COV_", "CI", "BUILD_NUMBER", "GITHUB_")
"""What of our environment would change what a run says; in CI pytest says everything twice."""


class PytestRun:
    """A ``pytest --llmperf`` process with a folder, a lease folder and a family of its own."""

    def __init__(
        self,
        folder: Path,
        tests: str,
        *arguments: str,
        script: str = "",
        **environment: str,
    ) -> None:
        """``script``: a step of a CI job, in which ``{pytest}`` stands for the command."""
        self.folder = folder
        self.family = Family()
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_it.py").write_text(tests)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_THEIRS)}
        self._output = folder / "output.txt"
        command = [sys.executable, "-m", "pytest", "-v", "--llmperf", *arguments]
        if script:
            (folder / "step.sh").write_text(script.format(pytest=shlex.join(command)))
            command = ["bash", "-e", "step.sh"]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={
                    **kept,
                    "XDG_STATE_HOME": str(folder / "state"),
                    MARK: self.family.mark,
                    **environment,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for_phase(self, phase: str, number: int = 0) -> int:
        """Wait until worker ``number`` of the run is in ``phase``; its pid."""
        return wait_for_phase(self.folder, phase, number)

    def finish(self, timeout_s: float = 60.0) -> int:
        """Wait for the end of the run; its exit code."""
        return self.process.wait(timeout_s)

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._output.read_text()

    def end(self) -> None:
        """Leave nothing behind, whatever the test found."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.family.kill()
