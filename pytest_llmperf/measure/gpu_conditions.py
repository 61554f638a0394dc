"""What disturbed the GPUs while we measured?

Shares of time are differences of the driver's cumulative counters ÷ the time between the readings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from pytest_llmperf.hardware.gpu_watch import GpuProcess, GpuReading, GpuSnapshot
from pytest_llmperf.measure.gpu_neighbours import (
    Neighbour,
    Occupants,
    Presence,
    find_gpu,
    label,
    neighbour,
    occupants,
    sees_host_pids,
)

NEGLIGIBLE_SHARE = 0.01
"""A GPU at its power limit is below its clocks for microseconds again and again; that is how it
finds its clocks (NVIDIA/DCGM issue 285)."""

_CAUSES = {
    "thermal": ("thermal_ns", "thermal slowdown"),
    "power": ("power_ns", "slowdown by the power limit"),
    "board": ("board_ns", "hardware slowdown (board limit)"),
    "reliability": ("reliability_ns", "hardware slowdown (reliability limit)"),
}
_UNSUPPORTED = "this GPU does not count it"
_BACKWARDS = "the driver's counter went backwards"


class GpuConditions(msgspec.Struct, frozen=True, kw_only=True):
    """What went on at one GPU between two readings."""

    gpu: str
    """For the reader: ``GPU-3f2a1b4c (RTX 4060 Ti)``."""
    uuid: str | None
    slowdown: dict[str, float]
    """``thermal``, ``power``, ``board``, ``reliability`` → share of the time below the clocks."""
    unknown: dict[str, str]
    """The same names, and ``processes`` → why it is not known."""
    neighbours: list[Neighbour]
    """Compute processes that are not the worker's."""
    unclear: list[Neighbour]
    """Processes of which one may be the worker under the host's number."""
    is_ours: bool = True
    """Whether the worker certainly uses this GPU."""


def gpu_conditions(
    before: GpuSnapshot,
    after: GpuSnapshot,
    own_pids: Collection[int],
    *,
    wall_s: float | None = None,
    idle: GpuSnapshot | None = None,
    root: Path = Path("/"),
) -> list[GpuConditions]:
    """Compare two snapshots, GPU by GPU. ``idle``: from before the worker was started.

    ``wall_s``: the time between both; without it, that of the snapshots themselves.
    """
    if wall_s is None:
        wall_s = (after.at_ns - before.at_ns) / 1e9
    host_pids = sees_host_pids(root)
    found = []
    for now in after.gpus:
        earlier = find_gpu(before, now.uuid, now.pci)
        slowdown, unknown = _slowdown(earlier, now, wall_s)
        at_rest = find_gpu(idle, now.uuid, now.pci)
        there = occupants(now, at_rest, own_pids, host_pids=host_pids)
        if there is None:
            unknown["processes"] = now.trouble or "the driver does not list them"
        then = occupants(earlier, at_rest, own_pids, host_pids=host_pids) if earlier else None
        found.append(
            GpuConditions(
                gpu=label(now),
                uuid=now.uuid,
                slowdown=slowdown,
                unknown=unknown,
                neighbours=[
                    neighbour(process, root, host_pids=host_pids, presence=presence)
                    for process, presence in _present(then or Occupants(), there or Occupants())
                ],
                unclear=[
                    neighbour(process, root, host_pids=host_pids)
                    for process in (there.unclear if there else ())
                ],
            )
        )
    return found


def of_worker(
    conditions: Sequence[GpuConditions], uuids: Collection[str | None]
) -> list[GpuConditions]:
    """Those of the GPUs that the worker uses; all, marked, where it is not known which.

    ``uuids``: of the GPUs on which it holds memory. What goes on at others does not disturb it.
    """
    ours = [each for each in conditions if each.uuid is not None and each.uuid in uuids]
    if ours or len(conditions) <= 1:
        return ours or list(conditions)
    return [msgspec.structs.replace(each, is_ours=False) for each in conditions]


def _slowdown(
    before: GpuReading | None, after: GpuReading, wall_s: float
) -> tuple[dict[str, float], dict[str, str]]:
    shares: dict[str, float] = {}
    unknown: dict[str, str] = {}
    for cause, (field, _) in _CAUSES.items():
        first = None if before is None else getattr(before.violations, field)
        last = getattr(after.violations, field)
        if first is None or last is None:
            unknown[cause] = after.trouble or (before and before.trouble) or _UNSUPPORTED
        elif last < first:
            unknown[cause] = _BACKWARDS
        elif wall_s <= 0:
            unknown[cause] = "no time passed between the readings"
        else:
            shares[cause] = min(1.0, (last - first) / 1e9 / wall_s)
    return shares, unknown


def _present(then: Occupants, now: Occupants) -> Iterator[tuple[GpuProcess, Presence]]:
    before = {each.pid: each for each in then.foreign}
    after = {each.pid: each for each in now.foreign}
    for pid, process in after.items():
        yield process, "all along" if pid in before else "came"
    for pid, process in before.items():
        if pid not in after:
            yield process, "left"


def gpu_findings(conditions: Collection[GpuConditions]) -> list[str]:
    """What of it the reader should know, one sentence each; empty when all was quiet.

    A counter that this GPU does not have is no finding; one that cannot be believed is.
    """
    found = []
    for each in conditions:
        for cause, (_, words) in _CAUSES.items():
            share = each.slowdown.get(cause, 0.0)
            if share >= NEGLIGIBLE_SHARE:
                found.append(f"{each.gpu}: {words} {share:.0%} of the time".replace("%", " %"))
            elif each.unknown.get(cause, _UNSUPPORTED) != _UNSUPPORTED:
                found.append(f"{each.gpu}: {words} is unknown: {each.unknown[cause]}")
        found += [_company(each.gpu, process) for process in each.neighbours]
        if len(each.unclear) > 1:
            numbers = ", ".join(str(process.pid) for process in each.unclear)
            found.append(
                f"another compute process on {each.gpu}: the driver lists pids {numbers} of the "
                "host, of which only one can be this worker"
            )
    return found


def _company(gpu: str, process: Neighbour) -> str:
    when = {
        "all along": "there all along",
        "came": "came while we measured",
        "left": "left while we measured",
    }[process.presence]
    return f"another compute process on {gpu}: {process}, {when}"
