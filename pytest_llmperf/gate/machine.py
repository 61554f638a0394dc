"""Did the machine change? What went on around a measurement, against its own history.

No fixed number would do: two threads that decode on two cores show 50 % CPU pressure when all is
well. What is usual for a test is what its own sessions show.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_llmperf.hardware.calibration import Calibration
from pytest_llmperf.measure import Measurement

LEAST_SESSIONS = 3
LEAST_WALL_S = 0.3
"""Shares of less time than this are those of a few ticks of the kernel's clock."""
_MADS = 5 * 1.4826
QUARTILES_OF_NORMAL = 1.349
"""Their distance, in standard deviations."""
_MEDIAN_ERROR = 1.2533
"""A median's standard error is so many times a mean's: √(π/2)."""


@dataclass(frozen=True)
class _Watched:
    """One condition: how a finding calls it, and how much more than usual is noise."""

    words: str
    least: float
    unit: str = "%"
    of_machine: bool = False
    """Whether no build can cause it, so that it is compared across acceptances of builds."""


_WATCHED = {
    "cpu_pressure": _Watched("tasks waited for a CPU", 0.15),
    "memory_pressure": _Watched("tasks waited for memory", 0.05),
    "io_pressure": _Watched("tasks waited for storage", 0.15),
    "other_share": _Watched("other processes used the cores", 0.05, of_machine=True),
    "stolen_share": _Watched("the host took the cores away", 0.02, of_machine=True),
    "throttled": _Watched("the CPU was throttled", 0.02),
    "thermal": _Watched("it was slowed by heat or a hardware limit", 0.01),
    "faults": _Watched("major page faults", 30.0, ""),
    "neighbours": _Watched("other compute processes on the GPU", 0.5, "", of_machine=True),
}


def conditions_of(measurement: Measurement) -> dict[str, float]:
    """What was seen, by the names that a baseline keeps; what is not known is absent."""
    found: dict[str, float | None] = {
        "thermal": measurement.slowed_share("thermal", "board", "reliability")
    }
    seen = measurement.conditions
    if seen is not None and seen.wall_s >= LEAST_WALL_S:
        # Tasks of its own that wait for each other are the build's doing: where others can be
        # seen, they are what counts.
        pressed = ("memory", "io") if seen.other_cores is not None else ("cpu", "memory", "io")
        for name in pressed:
            own = seen.pressure.get(f"group.{name}.some")
            found[f"{name}_pressure"] = (
                own if own is not None else seen.pressure.get(f"{name}.some")
            )
        found["throttled"] = seen.throttled_share
        found["faults"] = float(sum(seen.major_faults.values()))
        for name, cores in (("other_share", seen.other_cores), ("stolen_share", seen.steal_cores)):
            found[name] = None if cores is None else cores / seen.cores
    if measurement.gpu_conditions:
        found["neighbours"] = float(sum(len(gpu.neighbours) for gpu in measurement.gpu_conditions))
    return {name: value for name, value in found.items() if value is not None}


def probe_of(measurement: Measurement) -> tuple[float | None, float | None]:
    """The log of the machine's bandwidth around a measurement, and its standard error.

    Of two probes the mean. Its error is that of their repeats, or half of what they differ by,
    where that is more: the machine did not stand still.
    """
    probes = measurement.probes
    if not probes:
        return None, None
    within = math.hypot(*(_error(probe) for probe in probes)) / len(probes)
    middle = statistics.fmean(math.log(probe.bandwidth_median) for probe in probes)
    return middle, max(within, _between(probes) / 2)


def core_of(measurement: Measurement) -> float | None:
    """The log of the speed at which cores ran plain code between the samples, in KiB/s.

    None of samples that were over at once, beside which trying the cores is no short while.
    """
    seen = measurement.conditions
    if seen is None or not seen.core_time_ns or seen.wall_s < LEAST_WALL_S:
        return None
    return math.log(1e9 / seen.core_time_ns)


def _error(probe: Calibration) -> float:
    spread = (probe.bandwidth_high - probe.bandwidth_low) / QUARTILES_OF_NORMAL
    return _MEDIAN_ERROR * spread / probe.bandwidth_median / math.sqrt(probe.repeats)


def _between(probes: Sequence[Calibration]) -> float:
    """By how much they differ, on the log scale."""
    rates = [probe.bandwidth_median for probe in probes]
    return math.log(max(rates) / min(rates))


def changes(
    now: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
    of_machine: Sequence[Mapping[str, float]] | None = None,
) -> tuple[str, ...]:
    """What is beyond the test's own history, one sentence each; nothing where it is too young.

    ``history``: undisturbed sessions of this build's epoch; ``of_machine``: those of the same
    machine, under whichever build (by default the same).
    """
    longer = history if of_machine is None else of_machine
    found = []
    for name, watched in _WATCHED.items():
        known = longer if watched.of_machine else history
        usual = [each[name] for each in known if name in each]
        if name not in now or len(usual) < LEAST_SESSIONS:
            continue
        middle = statistics.median(usual)
        spread = statistics.median(abs(each - middle) for each in usual)
        if now[name] > middle + max(watched.least, _MADS * spread):
            found.append(
                f"{watched.words}: {_said(now[name], watched)}, usually {_said(middle, watched)}"
            )
    return tuple(found)


def _said(value: float, watched: _Watched) -> str:
    return f"{value:.0%}" if watched.unit else f"{value:.0f}"
