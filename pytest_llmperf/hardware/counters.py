"""What has the kernel counted so far of all that can disturb a measurement?"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Set
from pathlib import Path

import msgspec

from pytest_llmperf.hardware import counter_files
from pytest_llmperf.hardware.counter_files import Unknown

_CPUCLOCK_SCHED = 2


class CounterReading(msgspec.Struct, frozen=True, kw_only=True):
    """All counters at one instant. They only grow, unless the machine or a device was replaced."""

    wall_ns: int
    """Instant of the reading, in nanoseconds of ``time.perf_counter_ns()``."""
    cost_ns: int
    """What the reading itself took."""
    counters: dict[str, int]
    """Name → value. The names are those of :meth:`Counters.read`."""
    unknown: dict[str, Unknown]
    """First part of the names → why those counters are not there."""

    def value(self, name: str) -> int | Unknown:
        """One counter, or why it is not known."""
        if name in self.counters:
            return self.counters[name]
        part = name.partition(".")[0]
        near = [first for first in self.unknown if first.partition(".")[0] == part]
        # "heat.package0" explains "heat.package0.events", and better than "heat.package1" does.
        near.sort(key=lambda first: name.startswith(f"{first}."))
        return self.unknown[near[-1]] if near else Unknown(why="not counted here")


def process_cpu_ns(pid: int) -> int:
    """CPU time of a process and all its threads, in nanoseconds. Raises OSError if it is gone.

    The number of the clock: clock_getcpuclockid(3) as the kernel's posix-timers.h makes it.
    """
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)


class Counters:
    """The files of this machine, found once, for readings that cost well below a millisecond."""

    def __init__(
        self,
        pid: int,
        affinity: Set[int] | None,
        root: Path = Path("/"),
        *,
        cpu_clock: Callable[[int], int] = process_cpu_ns,
        platform: str = sys.platform,
    ) -> None:
        """``pid``: the worker. ``affinity``: the cores that it may use; None: all."""
        self._pid = pid
        self._cpu_clock = cpu_clock
        self._files: tuple[counter_files.CounterFile, ...] = ()
        self.cores = len(affinity) if affinity else os.cpu_count() or 1
        """How many cores are watched."""
        self.tick_s = 0.0
        """Resolution of the time on the cores."""
        self._linux = platform == "linux"
        if self._linux:
            ticks = os.sysconf("SC_CLK_TCK")
            self.tick_s = 1 / ticks
            self._files, self._absent = counter_files.find(root, affinity, 10**9 // ticks)
        else:
            why = Unknown(why=f"{platform} does not count it as Linux does")
            self._absent = dict.fromkeys(_PARTS, why)

    def read(self) -> CounterReading:
        """Read all counters.

        ``worker.cpu_ns``; ``cores.busy_ns``, ``.steal_ns`` and ``.all_ns`` (with idle time), summed
        over the cores; ``pressure.OF.some`` and ``.full`` and the same of the own group as
        ``pressure.group.OF.…``, in ns; ``group.throttled_ns`` and ``.periods``;
        ``heat.PLACE.slow_ns`` and ``.events``; ``disk.read_bytes``.
        """
        began_ns = time.perf_counter_ns()
        counters: dict[str, int] = {}
        unknown = dict(self._absent)
        if self._linux:
            try:
                counters["worker.cpu_ns"] = self._cpu_clock(self._pid)
            except OSError as error:
                why = f"CPU clock of process {self._pid}: {error.strerror}"
                unknown["worker"] = Unknown(why=why, unreadable=True)
        for file in self._files:
            found = file.read()
            if isinstance(found, Unknown):
                unknown[file.name] = found
            else:
                counters |= {f"{file.name}.{name}": value for name, value in found.items()}
        return CounterReading(
            wall_ns=began_ns,
            cost_ns=time.perf_counter_ns() - began_ns,
            counters=counters,
            unknown=unknown,
        )


_PARTS = ("worker", "cores", "pressure", "group", "heat", "disk")
