"""What disturbed the measurement?

The kernel's counters are read before and after each sample, the worker's usage at the borders of
its phases; everything here is a difference of two readings, summed over the samples. What cannot
be known has a reason in its place, never a zero.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from pytest_llmperf.hardware.counter_files import Unknown
from pytest_llmperf.hardware.counters import CounterReading, Counters
from pytest_llmperf.measure.counter_sums import Block, NotKnown, Sums
from pytest_llmperf.worker.usage import Usage

_BORDERS = 3
_T = TypeVar("_T")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What went on around and inside the worker during the samples."""

    blocks: int
    """Samples watched."""
    wall_s: float
    """From the reading before to the reading after a sample, summed; shares are of this."""
    threads: int | None
    """Threads of the engine on the CPU."""
    own_cpu_share: float | None
    """CPU time of the worker between t_1 and t_n ÷ that time ÷ threads."""
    cores: int
    """Cores that the worker may use."""
    other_cores: float | None
    """How many of them others used on average: other processes, the kernel, and pytest itself,
    which only waits. Children of the worker are its own."""
    steal_cores: float | None
    """How many of them the host gave to somebody else, on average."""
    resolution_cores: float | None
    """What the ticks of the kernel's clock leave open in both, either way."""
    core_time_ns: float | None = None
    """What a core took for a KiB of plain code while the engine stood still: geometric mean over
    the cores and the moments between samples. More, where a neighbour shares a core or its clock
    is lower. None: not tried."""
    pressure: dict[str, float]
    """``cpu.some``, ``io.full`` … → share of the time in which tasks waited; ``group.cpu.some`` …
    for the own control group alone. Judged against the test's own history, never by a number."""
    throttled_share: float | None
    """Share of the time for which the tightest control group held a thread back."""
    throttled_periods: int | None
    """In how many of its periods it did so."""
    thermal_share: float | None
    """Share of the time for which the hottest place slowed down, of slowdowns that have ended."""
    thermal_events: int | None
    """Slowdowns that began."""
    major_faults: dict[str, int]
    """Phase → page faults of the worker that waited for storage."""
    involuntary_switches: int | None
    """How often a thread of the worker lost its core to another one."""
    disk_read_bytes: int | None
    """What all processes together read from all disks."""
    reading_ms: float
    """The most that one reading of the counters took, waiting for a core included."""
    unknown: dict[str, str]
    """Name of a field, or ``pressure.…`` → why it is not known."""
    unreadable: list[str]
    """Those of ``unknown`` that every Linux tells, and that could not be read here."""


class ConditionsWatch:
    """Reads the counters around each sample."""

    def __init__(self, counters: Counters, threads: int | None) -> None:
        """``threads``: how many compute on the CPU; None if the engine does not tell."""
        self._counters, self._threads = counters, threads
        self._blocks: list[Block] = []
        self._before: CounterReading | None = None
        self._core_times_ns: list[float] = []

    def between(self, core_times_ns: Sequence[float]) -> None:
        """What each core took for plain code, with no request under way."""
        self._core_times_ns += core_times_ns

    def before(self) -> None:
        """A request is about to be sent."""
        self._before = self._counters.read()

    def after(self, usages: Sequence[Usage]) -> None:
        """Its answer is here; ``usages`` are the worker's at t_0, t_1 and t_n."""
        if self._before is None:
            raise RuntimeError("after() without before()")
        after = self._counters.read()
        self._blocks.append(Block(before=self._before, after=after, usages=list(usages)))
        self._before = None

    def summary(self) -> Conditions:
        """The conditions of all samples so far."""
        seen = summarize(
            self._blocks,
            threads=self._threads,
            cores=self._counters.cores,
            tick_s=self._counters.tick_s,
        )
        if not self._core_times_ns:
            return seen
        core_time_ns = statistics.geometric_mean(self._core_times_ns)
        return msgspec.structs.replace(seen, core_time_ns=core_time_ns)


def summarize(
    blocks: Sequence[Block], *, threads: int | None, cores: int, tick_s: float
) -> Conditions:
    """Add up the differences of all blocks.

    ``tick_s``: the unit in which the kernel counts the time on cores.
    """
    sums = Sums(blocks)
    unknown: dict[str, Unknown] = {}

    def known(name: str, compute: Callable[[], _T]) -> _T | None:
        try:
            return compute()
        except NotKnown as missing:
            unknown[name] = missing.reason
            return None

    resolution = _resolution_cores(len(blocks), sums.wall_s, cores, tick_s)
    pressure = {
        name: known(f"pressure.{name}", partial(sums.share, f"pressure.{name}"))
        for name in sums.names("pressure.")
    }
    unknown |= sums.never_read("pressure")
    return Conditions(
        blocks=len(blocks),
        wall_s=sums.wall_s,
        threads=threads,
        own_cpu_share=known("own_cpu_share", partial(_own_cpu_share, blocks, threads)),
        cores=cores,
        other_cores=known("other_cores", partial(_other_cores, sums, cores, resolution)),
        steal_cores=known("steal_cores", partial(_steal_cores, sums, cores, resolution)),
        resolution_cores=resolution,
        pressure={name: share for name, share in pressure.items() if share is not None},
        throttled_share=known("throttled_share", partial(_throttled_share, sums, cores, threads)),
        throttled_periods=known("throttled_periods", partial(sums.grown, "group.periods")),
        thermal_share=known("thermal_share", partial(_thermal_share, sums)),
        thermal_events=known("thermal_events", partial(_thermal_events, sums)),
        major_faults=known("major_faults", partial(_major_faults, blocks)) or {},
        involuntary_switches=known("involuntary_switches", partial(_switches, blocks)),
        disk_read_bytes=known("disk_read_bytes", partial(sums.grown, "disk.read_bytes")),
        reading_ms=sums.dearest_ns / 1e6,
        unknown={name: reason.why for name, reason in unknown.items()},
        unreadable=[name for name, reason in unknown.items() if reason.unreadable],
    )


def _usages(blocks: Sequence[Block]) -> list[list[Usage]]:
    """Of each block the worker's readings at t_0, t_1 and t_n. Raises NotKnown."""
    if not blocks:
        raise NotKnown("no sample was measured")
    if any(len(block.usages) != _BORDERS for block in blocks):
        raise NotKnown("the worker did not tell its usage at t_0, t_1 and t_n")
    return [block.usages for block in blocks]


def _own_cpu_share(blocks: Sequence[Block], threads: int | None) -> float:
    usages = _usages(blocks)
    if not threads:
        raise NotKnown("the engine does not tell how many threads compute")
    wall_s = sum(last.at_ns - first.at_ns for _, first, last in usages) / 1e9
    if wall_s <= 0:
        raise NotKnown("the decode took no time")
    return sum(last.cpu_s - first.cpu_s for _, first, last in usages) / wall_s / threads


def _major_faults(blocks: Sequence[Block]) -> dict[str, int]:
    usages = _usages(blocks)
    return {
        "prefill": sum(after.major_faults - before.major_faults for before, after, _ in usages),
        "decode": sum(after.major_faults - before.major_faults for _, before, after in usages),
    }


def _switches(blocks: Sequence[Block]) -> int:
    return sum(
        last.involuntary_switches - first.involuntary_switches for first, _, last in _usages(blocks)
    )


def _resolution_cores(blocks: int, wall_s: float, cores: int, tick_s: float) -> float | None:
    """Two standard deviations of an average number of cores.

    Each block rounds the user and the system time of each core to a tick at either end: four
    roundings with a variance of 1/12 tick² each, independent of one another.
    """
    if wall_s <= 0:
        return None
    return 2 * tick_s * math.sqrt(4 / 12 * cores * blocks) / wall_s


def _check_core_times(sums: Sums, cores: int, resolution: float | None) -> None:
    """Raises NotKnown where /proc/stat says nothing about so short a time, or nothing at all."""
    counted = sums.share("cores.all_ns")
    if resolution is None or resolution > cores / 4:
        raise NotKnown(
            f"the samples lasted {sums.wall_s * 1e3:.3g} ms, too short for the kernel's ticks"
        )
    # A sandbox may show a /proc/stat of zeros, or one that somebody else has made up.
    if counted < cores / 2:
        raise NotKnown("the times of /proc/stat stand still")


def _other_cores(sums: Sums, cores: int, resolution: float | None) -> float:
    """Busy cores that the worker does not account for. Both are read at the same instant."""
    _check_core_times(sums, cores, resolution)
    busy, own = sums.share("cores.busy_ns"), sums.share("worker.cpu_ns")
    if own - busy > cores / 4:
        raise NotKnown(f"the worker used {own:.2f} cores, /proc/stat counts {busy:.2f} for all")
    return max(0.0, busy - own)


def _steal_cores(sums: Sums, cores: int, resolution: float | None) -> float:
    _check_core_times(sums, cores, resolution)
    return sums.share("cores.steal_ns")


def _throttled_share(sums: Sums, cores: int, threads: int | None) -> float:
    """The kernel adds up the time of every core on which the group was held.

    A group holds back as many cores as it has threads that want to run. Where their number is not
    known, one is assumed, so that the share is that of the time in which any was held, at most.
    """
    return min(1.0, sums.share("group.throttled_ns") / min(threads or 1, cores))


def _thermal_share(sums: Sums) -> float:
    # A slowdown is counted when it ends, so that a short block may end a longer one.
    return min(1.0, sums.share(sums.largest("heat.", ".slow_ns")))


def _thermal_events(sums: Sums) -> int:
    return sums.grown(sums.largest("heat.", ".events"))
