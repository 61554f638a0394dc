"""How much memory did the worker take at its peak, and how is that known?

The kernel keeps a high-water mark of resident memory for every process and lets its owner reset
it, so a peak needs no sampling: nothing can hide between two looks.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class MemoryPeak(msgspec.Struct, frozen=True, kw_only=True):
    """Peak resident memory of a worker, in bytes."""

    peak_bytes: int
    load_bytes: int
    """Peak up to the end of the load."""
    run_bytes: int
    """Peak of the requests after it."""
    kind: str
    """``exact``: one process; ``bound``: the worker had children, the truth is not below this."""
    how: str
    slack_bytes: int
    """What the kernel's per-CPU counters may hide, either way."""


def counter_slack_bytes(cpus: int, page_bytes: int) -> int:
    """Error of the resident-memory counters: max(32, 2·CPUs) pages on each CPU.

    Source: the batch size of percpu_counter in the Linux kernel (lib/percpu_counter.c).
    """
    return max(32, 2 * cpus) * cpus * page_bytes


def reset_peak(pid: int, root: Path = Path("/")) -> bool:
    """Start a new high-water mark (proc(5), clear_refs); False where the kernel refuses."""
    try:
        (root / f"proc/{pid}/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_bytes(pid: int, root: Path = Path("/")) -> int | None:
    """VmHWM of a live process, in bytes; None where the system does not tell."""
    try:
        status = (root / f"proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def has_children(pid: int, root: Path = Path("/")) -> bool:
    """Whether any thread of the process has a live child."""
    for path in (root / f"proc/{pid}/task").glob("*/children"):
        try:
            if path.read_text().strip():
                return True
        except OSError:
            continue
    return False


class MemoryWatch:
    """The peak of one worker over one measurement; resets happen only between requests."""

    def __init__(self, pid: int, load_bytes: int | None, earlier_requests: int = 0) -> None:
        """``earlier_requests``: what the worker answered before; its leftovers count as well."""
        self._pid = pid
        self._earlier_requests = earlier_requests
        self._load_bytes = peak_bytes(pid) if load_bytes is None else load_bytes
        self._reset = reset_peak(pid)

    @property
    def load_bytes(self) -> int | None:
        """Peak up to the end of the load; None where the system does not tell."""
        return self._load_bytes

    def read(self) -> MemoryPeak | None:
        """The peak so far; None where the system does not tell."""
        run_bytes = peak_bytes(self._pid)
        if run_bytes is None or self._load_bytes is None:
            return None
        how = "VmHWM, reset after the load" if self._reset else "VmHWM over the worker's whole life"
        if self._earlier_requests:
            how += f"; the worker had answered {self._earlier_requests} requests before"
        alone = not has_children(self._pid)
        return MemoryPeak(
            peak_bytes=max(self._load_bytes, run_bytes),
            load_bytes=self._load_bytes,
            run_bytes=run_bytes,
            kind="exact" if alone else "bound",
            how=how if alone else f"{how}; of the worker alone, its children not counted",
            slack_bytes=counter_slack_bytes(os.cpu_count() or 1, os.sysconf("SC_PAGESIZE")),
        )
