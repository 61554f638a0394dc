"""Did the machine change? What went on around a measurement, against its own history.

No fixed number would do: two threads that decode on two cores show 50 % CPU pressure when all is
well. What is usual for a test is what its own sessions show.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_llmperf.measure import Measurement

LEAST_SESSIONS = 3
LEAST_WALL_S = 0.3
"""Shares of less time than this are those of a few ticks of the kernel's clock."""
_MADS = 5 * 1.4826


@dataclass(frozen=True)
class _Watched:
    """One condition: how a finding calls it, and how much more than usual is noise."""

    words: str
    least: float
    unit: str = "%"


_WATCHED = {
    "cpu_pressure": _Watched("tasks waited for a CPU", 0.15),
    "memory_pressure": _Watched("tasks waited for memory", 0.05),
    "io_pressure": _Watched("tasks waited for storage", 0.15),
    "other_share": _Watched("other processes used the cores", 0.05),
    "stolen_share": _Watched("the host took the cores away", 0.02),
    "throttled": _Watched("the CPU was throttled", 0.02),
    "thermal": _Watched("it was slowed by heat or a hardware limit", 0.01),
    "faults": _Watched("major page faults", 30.0, ""),
    "neighbours": _Watched("other compute processes on the GPU", 0.5, ""),
}


def conditions_of(measurement: Measurement) -> dict[str, float]:
    """What was seen, by the names that a baseline keeps; what is not known is absent."""
    found: dict[str, float | None] = {
        "thermal": measurement.slowed_share("thermal", "board", "reliability")
    }
    seen = measurement.conditions
    if seen is not None and seen.wall_s >= LEAST_WALL_S:
        for name in ("cpu", "memory", "io"):
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
    if measurement.probe is not None:
        found["bandwidth"] = measurement.probe.bandwidth_best
    return {name: value for name, value in found.items() if value is not None}


def changes(now: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """What is beyond the test's own history, one sentence each; nothing where it is too young."""
    found = []
    for name, watched in _WATCHED.items():
        usual = [each[name] for each in history if name in each]
        if name not in now or len(usual) < LEAST_SESSIONS:
            continue
        middle = statistics.median(usual)
        spread = statistics.median(abs(each - middle) for each in usual)
        if now[name] > middle + max(watched.least, _MADS * spread):
            found.append(
                f"{watched.words}: {_said(now[name], watched)}, usually {_said(middle, watched)}"
            )
    return (*found, *_bandwidth(now, history))


def _bandwidth(now: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """A machine that is faster by a fifth is another one, too."""
    usual = [each["bandwidth"] for each in history if "bandwidth" in each]
    if "bandwidth" not in now or len(usual) < LEAST_SESSIONS:
        return ()
    middle = statistics.median(usual)
    spread = statistics.median(abs(math.log(each / middle)) for each in usual)
    if abs(math.log(now["bandwidth"] / middle)) <= max(math.log(1.2), 3.5 * spread):
        return ()
    return (
        f"the memory bandwidth is {now['bandwidth'] / 1e9:.1f} GB/s, usually {middle / 1e9:.1f}",
    )


def _said(value: float, watched: _Watched) -> str:
    return f"{value:.0%}" if watched.unit else f"{value:.0f}"
