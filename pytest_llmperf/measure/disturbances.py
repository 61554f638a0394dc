"""Which of the conditions must the reader know before believing the numbers?"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_llmperf.measure.conditions import Conditions

LEAST_FAULTS = 10
"""A fault waits 0.1 ms for a flash disk and up to 10 ms for others; warm-up has already run all
code once. Fewer than ten are neither time nor a sign of missing weights."""
OTHER_CORES = 0.1
"""Threads of one engine wait for one another: a core that is disturbed a tenth of the time disturbs
a tenth of the steps. What a quiet system does for itself stays below."""
OTHER_SHARE = 0.02
"""On large machines services and the kernel use some cores all the time: this part of them."""
STEAL_SHARE = 0.02
"""Of the cores. A virtual machine alone on its host shows less than one percent."""
LEAST_SHARE = 0.01
"""Of the time, throttled or too hot: half of what two steady medians may differ by."""
DISK_BYTES_PER_S = 10 * 2**20
"""A tenth of what a slow disk reads; logs and services stay below."""
WAITED_SHARE = 0.3
"""Of the time, in which a task waited for storage: where the usual advice for %iowait begins.
Unlike that, pressure is not hidden by whatever else keeps the cores busy."""

_GIB = 2**30
_MIB = 2**20


def findings(conditions: Conditions) -> list[str]:
    """One sentence, with its number, for each disturbance that may have moved the numbers.

    Pressure on CPU and memory and the own share of the CPU are not among them: what is usual
    depends on the test.
    """
    return [
        *_faults(conditions),
        *_cores(conditions),
        *_slowdowns(conditions),
        *_disks(conditions),
        *_waits(conditions),
        *_unreadable(conditions),
    ]


def _faults(conditions: Conditions) -> Iterator[str]:
    for phase, count in conditions.major_faults.items():
        if count >= LEAST_FAULTS:
            yield f"{count} major page faults in {phase}: the weights were not all in memory"


def _cores(conditions: Conditions) -> Iterator[str]:
    cores, resolution = conditions.cores, conditions.resolution_cores or 0.0
    others, stolen = conditions.other_cores, conditions.steal_cores
    if others is not None and others - resolution >= max(OTHER_CORES, OTHER_SHARE * cores):
        yield f"other processes used {others:.2f} of {cores} cores"
    if stolen is not None and stolen - resolution >= STEAL_SHARE * cores:
        yield f"{stolen:.2f} of {cores} cores were stolen by the host"


def is_alone(conditions: Conditions) -> bool:
    """Whether it is known that nobody else took more of the cores than a quiet system does."""
    known = conditions.other_cores is not None and conditions.steal_cores is not None
    return known and not any(_cores(conditions))


def _slowdowns(conditions: Conditions) -> Iterator[str]:
    throttled, hot = conditions.throttled_share, conditions.thermal_share
    if throttled is not None and throttled >= LEAST_SHARE:
        yield f"the control group was throttled {_percent(throttled)} of the time"
    if hot is not None and hot >= LEAST_SHARE:
        yield f"thermal slowdown {_percent(hot)} of the time"
    elif conditions.thermal_events:
        yield f"the processor began to slow down for heat, {conditions.thermal_events} ×"


def _disks(conditions: Conditions) -> Iterator[str]:
    read_bytes = conditions.disk_read_bytes
    if read_bytes and read_bytes >= DISK_BYTES_PER_S * conditions.wall_s:
        size = (
            f"{read_bytes / _GIB:.1f} GiB" if read_bytes >= _GIB else f"{read_bytes / _MIB:.1f} MiB"
        )
        yield f"read {size} from disk while measuring"


def _waits(conditions: Conditions) -> Iterator[str]:
    """Of the own control group where it is told: the system's pressure may be that of anybody."""
    for name, whose in (("group.io.some", "of this control group"), ("io.some", "of this machine")):
        share = conditions.pressure.get(name)
        if share is not None:
            if share >= WAITED_SHARE:
                yield f"tasks {whose} waited for storage {_percent(share)} of the time"
            return


def _unreadable(conditions: Conditions) -> Iterator[str]:
    """One sentence for all; fields that lack the same file share its reason."""
    reasons: dict[str, list[str]] = {}
    for name in conditions.unreadable:
        reasons.setdefault(conditions.unknown[name], []).append(name)
    if reasons:
        told = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        yield f"unknown conditions: {told}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
