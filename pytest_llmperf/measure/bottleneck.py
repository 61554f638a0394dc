"""What limits this run's decode, by which evidence, or why can it not be told?

A disturbance is looked for first: a machine that is throttled or shared has no limit of its own to
show. Then comes the share of the memory bandwidth, which bounds every decode, then what the threads
did in the time that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from pytest_llmperf.measure import disturbances
from pytest_llmperf.measure.conditions import Conditions
from pytest_llmperf.measure.disturbances import DISK_BYTES_PER_S, LEAST_FAULTS
from pytest_llmperf.measure.measurement import Measurement

Limit = Literal[
    "memory bandwidth",
    "compute",
    "storage",
    "CPU contention",
    "thermal slowdown",
    "host overhead",
]

SLOWED = 0.05
"""Share of the time from which a throttled machine is what limits."""
WAITED = 0.10
"""The same for tasks that waited for storage."""
BANDWIDTH_BOUND = 0.6
"""Share of the measured bandwidth from which reading the weights is most of the time."""
BUSY = 0.9
"""Share of the threads' time from which they compute throughout, or wait for one another by
spinning, which is the price of computing in parallel."""
IDLE = 0.75
"""Share of the threads' time below which they wait for something that is not arithmetic."""


class Bottleneck(msgspec.Struct, frozen=True, kw_only=True):
    """What limits the decode."""

    limit: Limit | None
    """None: it cannot be told."""
    evidence: str

    @property
    def sentence(self) -> str:
        """One sentence with the limit and its evidence."""
        if self.limit is None:
            return f"What limits decode cannot be told: {self.evidence}."
        return f"Decode is limited by {self.limit}: {self.evidence}."


def find_bottleneck(measurement: Measurement) -> Bottleneck:
    """Weigh what was seen beside the clock."""
    if measurement.invalid:
        return Bottleneck(limit=None, evidence="the measurement is invalid")
    if "decode_tps" not in measurement.metrics:
        return Bottleneck(limit=None, evidence="nothing was decoded but the first token")
    for look in _LOOKS:
        found = look(measurement)
        if found is not None:
            return found
    return Bottleneck(limit=None, evidence=_why_not(measurement))


def _thermal(measurement: Measurement) -> Bottleneck | None:
    worst = measurement.slowed_share("thermal")
    if worst is None or worst < SLOWED:
        return None
    return Bottleneck(limit="thermal slowdown", evidence=f"it was slowed {worst:.0%} of the time")


def _storage(measurement: Measurement) -> Bottleneck | None:
    conditions = measurement.conditions
    if conditions is None:
        return None
    faults = conditions.major_faults.get("decode", 0)
    if faults < LEAST_FAULTS:
        return None
    waited = conditions.pressure.get("group.io.some")
    if waited is not None:
        if waited < WAITED:
            return None
        evidence = (
            f"{faults} major page faults, and tasks of its control group waited for storage "
            f"{waited:.0%} of the time"
        )
        return Bottleneck(limit="storage", evidence=evidence)
    # The whole system's pressure may be that of anybody.
    read_bytes = conditions.disk_read_bytes or 0
    if read_bytes < DISK_BYTES_PER_S * conditions.wall_s:
        return None
    evidence = f"{faults} major page faults, and {read_bytes / 2**20:.0f} MiB read from disk"
    return Bottleneck(limit="storage", evidence=evidence)


def _contention(measurement: Measurement) -> Bottleneck | None:
    conditions = measurement.conditions
    if conditions is None:
        return None
    throttled = conditions.throttled_share
    if throttled is not None and throttled >= SLOWED:
        evidence = f"the control group was throttled {throttled:.0%} of the time"
        return Bottleneck(limit="CPU contention", evidence=evidence)
    taken = _taken_cores(conditions)
    if conditions.threads is None or taken is None:
        return None
    wanted = taken + min(conditions.threads, conditions.cores)
    if wanted <= conditions.cores + WAITED * conditions.threads:
        return None
    evidence = (
        f"{conditions.threads} threads and {taken:.2f} cores' worth of other work on "
        f"{conditions.cores} cores"
    )
    return Bottleneck(limit="CPU contention", evidence=evidence)


def _taken_cores(conditions: Conditions) -> float | None:
    """What others and the host took beyond what the kernel's ticks leave open."""
    told = [each for each in (conditions.other_cores, conditions.steal_cores) if each is not None]
    if not told:
        return None
    return max(0.0, sum(told) - (conditions.resolution_cores or 0.0))


def _bandwidth(measurement: Measurement) -> Bottleneck | None:
    roofline = measurement.roofline
    if roofline is None or roofline.mbu is None or roofline.mbu < BANDWIDTH_BOUND:
        return None
    evidence = f"{roofline.arithmetic} ({roofline.mbu:.0%})"
    return Bottleneck(limit="memory bandwidth", evidence=evidence)


def _threads(measurement: Measurement) -> Bottleneck | None:
    """Below the roofline: did the threads compute, or wait for one another and for Python?"""
    conditions = measurement.conditions
    if measurement.engine.device != "cpu" or conditions is None:
        return None
    mbu = None if measurement.roofline is None else measurement.roofline.mbu
    share, threads = conditions.own_cpu_share, conditions.threads
    if mbu is None or share is None or not disturbances.is_alone(conditions):
        return None
    busy = f"the {threads} threads ran {share:.0%} of the time"
    used = f"only {mbu:.0%} of the memory bandwidth was used"
    if share >= BUSY:
        return Bottleneck(limit="compute", evidence=f"{busy}, and {used}")
    if share < IDLE:
        evidence = f"{busy}, no one else took the cores, and {used}"
        return Bottleneck(limit="host overhead", evidence=evidence)
    return None


_LOOKS: tuple[Callable[[Measurement], Bottleneck | None], ...] = (
    _thermal,
    _storage,
    _contention,
    _bandwidth,
    _threads,
)


def _why_not(measurement: Measurement) -> str:
    """What is missing, or contradicts itself."""
    roofline = measurement.roofline
    if roofline is None or roofline.mbu is None:
        why = measurement.absent.get("mbu", "it was not measured")
        return f"the share of the memory bandwidth is not known ({why})"
    if measurement.engine.device != "cpu":
        return (
            f"{roofline.mbu:.0%} of the memory bandwidth of {measurement.engine.device}, and what "
            "it did in the rest of the time cannot be seen from outside"
        )
    if measurement.conditions is None or measurement.conditions.own_cpu_share is None:
        return f"{roofline.mbu:.0%} of the memory bandwidth, and the CPU time is not known"
    ran = (
        f"{roofline.mbu:.0%} of the memory bandwidth, and the threads ran "
        f"{measurement.conditions.own_cpu_share:.0%} of the time"
    )
    if not disturbances.is_alone(measurement.conditions):
        return f"{ran}, but others may have taken part of both"
    return f"{ran}: neither stands out"
