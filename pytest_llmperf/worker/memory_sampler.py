"""What is the most that a process tree holds, as seen by looking again and again?

The last way, where the kernel keeps no mark of a peak. It looks from a process of its own, because
a thread of the worker would not run while the engine holds the interpreter lock; what lasts
shorter than an interval it may still miss.

    python -m pytest_llmperf.worker.memory_sampler PID DESCRIPTOR INTERVAL_S

writes the result so far to the file behind the descriptor, and ends with the process.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import time
import weakref
from typing import IO

import msgspec
import psutil

from pytest_llmperf import child
from pytest_llmperf.worker.peaks import members

INTERVAL_S = 0.010
_RESULT = struct.Struct("<QQ")
_START_S = 10.0
_POLL_S = 0.005


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """What the looks found."""

    most_bytes: int
    """The largest sum of resident memory over the tree."""
    looks: int


class Sampler:
    """Watches a process tree from the first look, which comes before the constructor returns."""

    def __init__(self, pid: int, interval_s: float = INTERVAL_S) -> None:
        """Raises OSError when no process can be started."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open until finish()
        descriptor = self._file.fileno()
        module = "pytest_llmperf.worker.memory_sampler"
        try:
            self._child = child.start(
                [sys.executable, "-m", module, str(pid), str(descriptor), str(interval_s)],
                descriptors=(descriptor,),
            )
        except OSError:
            self._file.close()
            raise
        self._end = weakref.finalize(self, _give_back, self._child, self._file)
        deadline = time.monotonic() + _START_S
        while self.so_far() is None and time.monotonic() < deadline:
            if self._child.wait_for_exit(_POLL_S):
                break

    @property
    def pid(self) -> int:
        """Process id of the one that looks."""
        return self._child.pid

    def finish(self) -> Sampled | None:
        """Stop looking; None if it never got to look."""
        sampled = self.so_far()
        self._end()
        return sampled

    def so_far(self) -> Sampled | None:
        """What it saw until now; None before its first look."""
        words = os.pread(self._file.fileno(), _RESULT.size, 0)
        if len(words) < _RESULT.size:
            return None
        most, looks = _RESULT.unpack(words)
        return Sampled(most_bytes=most, looks=looks)


def _give_back(process: child.Child, file: IO[bytes]) -> None:
    process.end()
    file.close()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, added up; 0 once they have ended."""
    total = 0
    for each in members(pid):
        try:
            total += psutil.Process(each).memory_info().rss
        except psutil.Error:  # it ended; one that hides itself cannot be counted
            continue
    return total


def main(arguments: list[str]) -> int:
    """Look until the process has ended, or until somebody ends this one."""
    child.die_with_parent()
    pid, descriptor, interval_s = int(arguments[0]), int(arguments[1]), float(arguments[2])
    most, looks = 0, 0
    due = time.monotonic()
    while now_bytes := resident_bytes(pid):
        looks += 1
        most = max(most, now_bytes)
        os.pwrite(descriptor, _RESULT.pack(most, looks), 0)
        due += interval_s
        time.sleep(max(0.0, due - time.monotonic()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
