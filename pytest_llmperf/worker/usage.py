"""What has the worker used of the processor so far, and what was it made to wait for?"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import msgspec

_BLOCK_BYTES = 512
"""Unit of ru_inblock in Linux, whatever the disk's blocks are (task_io_accounting_ops.h)."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of getrusage(2) of the worker itself, all its threads, without its children."""

    at_ns: int
    """Instant of the reading, in nanoseconds of the clock."""
    cpu_s: float
    """CPU time, user and system."""
    major_faults: int
    """Page faults that had to wait for storage."""
    minor_faults: int
    """Page faults that the page cache or a fresh page answered."""
    disk_read_bytes: int
    """What had to be fetched from storage, page faults and read-ahead included."""
    involuntary_switches: int
    """How often a thread lost its core to another one."""


def read_usage(clock: Callable[[], int] = time.perf_counter_ns) -> Usage | None:
    """Usage up to now, one system call; None on Windows, which has no getrusage."""
    if sys.platform == "win32":
        return None
    import resource  # not there on Windows

    at_ns = clock()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(
        at_ns=at_ns,
        cpu_s=usage.ru_utime + usage.ru_stime,
        major_faults=usage.ru_majflt,
        minor_faults=usage.ru_minflt,
        disk_read_bytes=usage.ru_inblock * _BLOCK_BYTES,
        involuntary_switches=usage.ru_nivcsw,
    )
