"""What can go wrong with a worker, in words for the person whose test it was?"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.ending import exit_name

LAST_WORDS_LINES = 20
LAST_WORDS_WIDTH = 300
_TAIL_BYTES = 64 << 10
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
"""Terminal control sequences and control characters, tab and newline excepted."""


_OUT_OF_MEMORY = re.compile(
    "out of memory|OutOfMemory|MemoryError|bad_alloc|"
    "(cannot|can't|failed to|unable to) allocate(?! memory in static TLS)",
    re.IGNORECASE,
)
"""As Python, torch, CUDA, ggml and the C++ library say it."""


class WorkerError(Exception):
    """Something went wrong in a worker; the message is complete in itself."""


class EngineNotInstalled(WorkerError):
    """The engine cannot be imported in the worker's environment."""


class EngineRefusal(WorkerError):
    """The engine, or its adapter, will not do what was asked."""


class EngineRaised(WorkerError):
    """The engine raised an exception, or a process of it ended."""


class WorkerDied(WorkerError):
    """The worker process ended by itself."""


class WorkerHung(WorkerError):
    """The worker gave no answer before its deadline, and was ended."""


class WorkerGarbled(WorkerError):
    """What the worker wrote to its channel is no message; it was ended."""


@dataclass(frozen=True)
class Obituary:
    """What is known of a worker that is no more."""

    backend: str
    exit_code: int
    """−N: killed by signal N."""
    phase: str
    log: Path

    def text(self, happened: str = "") -> str:
        """The report: what happened in which phase, a remedy where one is known, last words."""
        ended = happened or exit_name(self.exit_code)
        lines = [f"{self.backend} worker {ended} during {self.phase}"]
        remedy = known_remedy(self.backend, self.exit_code)
        if remedy and not happened:
            lines.append(remedy)
        return "\n".join([*lines, *log_lines(self.log)])


def known_remedy(backend: str, exit_code: int) -> str | None:
    """What is known to cure this kind of death, or None."""
    crashed = exit_code in {-signal.SIGILL, -signal.SIGSEGV}
    if backend == "llama-cpp" and crashed:
        return (
            "a native build of llama.cpp crashes like this on virtual machines that advertise "
            "instructions (AMX) they do not allow. Rebuild without native tuning:\n"
            '  CMAKE_ARGS="-DGGML_NATIVE=OFF" pip install --force-reinstall --no-cache-dir '
            "--no-binary llama-cpp-python llama-cpp-python"
        )
    if exit_code == -signal.SIGKILL:
        return (
            "SIGKILL that nobody sent is usually the kernel's out-of-memory killer: "
            "see `dmesg | grep -i oom`"
        )
    return None


def names_want_of_memory(text: str) -> bool:
    """Whether an engine's words say that there was not enough memory."""
    return _OUT_OF_MEMORY.search(text) is not None


def is_out_of_memory(error: WorkerError) -> bool:
    """Whether a load or a request ended for want of memory, as far as it shows."""
    text = str(error)
    was_killed = isinstance(error, WorkerDied) and exit_name(-signal.SIGKILL) in text
    return was_killed or names_want_of_memory(text)


def log_lines(log: Path) -> list[str]:
    """Where the log is, and its last words if there are any, as lines of a report."""
    words = last_words(log)
    heading = [f"last words ({len(words)} lines of stderr):"] if words else []
    return [f"log: {log}", *heading, *(f"  {word}" for word in words)]


def last_words(log: Path) -> list[str]:
    """The last lines of a worker's log; only its tail is read, however long it is."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    plain = _UNPRINTABLE.sub("", text.replace("\r", "\n"))
    lines = [line.rstrip()[:LAST_WORDS_WIDTH] for line in plain.split("\n") if line.strip()]
    return lines[-LAST_WORDS_LINES:]
