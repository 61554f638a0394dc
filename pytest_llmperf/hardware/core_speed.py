"""How fast do the cores run plain code at this moment?

A core of two threads that also computes for a neighbour has about 60 % left for each (a checksum
63 %, an integer loop 58 %, on an AMD EPYC of 2026), and a virtual machine is told nothing of such
a neighbour: neither its processes nor stolen time show it. Nor does a kernel of wide
multiplications, which fills a core by itself. A checksum does, as it shows a lower clock.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Sequence

CHECKSUM = {"zlib": zlib.ZLIB_RUNTIME_VERSION}
"""Whose: times of another are not comparable."""

_BLOCK = bytes(16 * 1024)
"""Fits into every first-level cache, so that memory has no part in it."""
_REPEATS = 50
_KIB = len(_BLOCK) // 1024 * _REPEATS
_TRIES = 3
_MOST_CORES = 4


def core_times_ns() -> list[float]:
    """Nanoseconds for a KiB on each core that we may use, or on four of them, evenly chosen.

    The fastest of three tries of about 0.3 ms: an interrupt spoils one. Empty where the system
    does not let a thread choose its core, as all but Linux and some sandboxes do not.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = os.sched_getaffinity(0)
    times = []
    try:
        for core in _spread(sorted(allowed)):
            os.sched_setaffinity(0, {core})  # of this thread only
            times.append(_time_ns())
    except OSError:
        return []
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, allowed)
    return times


def _spread(cores: Sequence[int]) -> list[int]:
    count = min(len(cores), _MOST_CORES)
    return [cores[index * len(cores) // count] for index in range(count)]


def _time_ns() -> float:
    best = float("inf")
    for _ in range(_TRIES):
        began = time.perf_counter_ns()
        for _ in range(_REPEATS):
            zlib.crc32(_BLOCK)
        best = min(best, time.perf_counter_ns() - began)
    return best / _KIB
