"""Is what slowed a GPU down named, and what could not be known never taken for nothing?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.hardware.gpu_watch import GpuReading, Violations
from pytest_llmperf.measure.gpu_conditions import (
    GpuConditions,
    gpu_conditions,
    gpu_findings,
    of_worker,
)
from tests.unit.measure.gpus import SECOND_NS, STRANGER, WORKER, gpu, machine, process, snapshot


def counted(**seconds: float | None) -> GpuReading:
    counters = {
        f"{cause}_ns": None if value is None else int(value * SECOND_NS)
        for cause, value in seconds.items()
    }
    return gpu(violations=Violations(**counters))


def compare(before: GpuReading, after: GpuReading, root: Path, **changes: Any) -> GpuConditions:
    (found,) = gpu_conditions(
        snapshot(before, at_s=100), snapshot(after, at_s=150), {WORKER}, root=root, **changes
    )
    return found


def test_slowdowns_are_shares_of_the_time_between_the_readings(tmp_path: Path) -> None:
    machine(tmp_path)
    before = counted(thermal=7, power=1, board=0, reliability=2)
    after = counted(thermal=13, power=1.4, board=25, reliability=2)
    found = compare(before, after, tmp_path)
    assert found.slowdown == {"thermal": 0.12, "power": 0.008, "board": 0.5, "reliability": 0}
    assert gpu_findings([found]) == [
        "GPU-aaaa (RTX 4060 Ti): thermal slowdown 12 % of the time",
        "GPU-aaaa (RTX 4060 Ti): hardware slowdown (board limit) 50 % of the time",
    ]


def test_a_share_is_of_the_stated_time_and_never_above_all_of_it(tmp_path: Path) -> None:
    machine(tmp_path)
    found = compare(counted(thermal=0, power=0), counted(thermal=1, power=5), tmp_path, wall_s=4.0)
    assert (found.slowdown["thermal"], found.slowdown["power"]) == (0.25, 1.0)


def test_a_counter_that_goes_backwards_is_unknown_and_said(tmp_path: Path) -> None:
    machine(tmp_path)
    found = compare(counted(thermal=9), counted(thermal=3), tmp_path)
    assert "thermal" not in found.slowdown
    (finding,) = gpu_findings([found])
    assert finding.endswith("thermal slowdown is unknown: the driver's counter went backwards")


def test_a_counter_that_the_gpu_does_not_have_is_unknown_and_no_alarm(tmp_path: Path) -> None:
    machine(tmp_path)
    found = compare(counted(thermal=0), counted(thermal=0), tmp_path)
    assert set(found.unknown) == {"power", "board", "reliability"}
    assert gpu_findings([found]) == []


def test_a_gpu_lost_meanwhile_is_unknown_and_said(tmp_path: Path) -> None:
    machine(tmp_path)
    lost = gpu(processes=None, used_bytes=None, trouble="does not answer (GPU is lost)")
    found = compare(counted(thermal=0), lost, tmp_path)
    assert found.unknown["processes"] == "does not answer (GPU is lost)"
    assert any("GPU is lost" in finding for finding in gpu_findings([found]))


def test_cards_are_compared_with_themselves_whatever_their_order(tmp_path: Path) -> None:
    machine(tmp_path)
    cool, hot = (
        gpu(uuid, pci=None, violations=Violations(thermal_ns=start))
        for uuid, start in (("GPU-cool", 100 * SECOND_NS), ("GPU-hot", 0))
    )
    later = gpu("GPU-hot", pci=None, violations=Violations(thermal_ns=5 * SECOND_NS))
    found = gpu_conditions(
        snapshot(cool, hot), snapshot(later, cool, at_s=10), {WORKER}, root=tmp_path
    )
    assert [each.slowdown["thermal"] for each in found] == [0.5, 0.0]


def test_strangers_are_named_with_their_command_and_when_they_were_there(tmp_path: Path) -> None:
    commands = {STRANGER: "python train.py --epochs 9", 78: "blender", 79: "ollama serve"}
    machine(tmp_path, commands=commands)
    before = gpu(processes=(process(WORKER), process(STRANGER), process(79)))
    after = gpu(processes=(process(WORKER), process(STRANGER), process(78)))
    where = "another compute process on GPU-aaaa (RTX 4060 Ti)"
    assert gpu_findings([compare(before, after, tmp_path)]) == [
        f"{where}: pid 77 (python train.py --epochs 9), there all along",
        f"{where}: pid 78 (blender), came while we measured",
        f"{where}: pid 79 (ollama serve), left while we measured",
    ]


def test_the_worker_alone_is_no_stranger(tmp_path: Path) -> None:
    machine(tmp_path)
    reading = gpu(processes=(process(WORKER),))
    assert gpu_findings([compare(reading, reading, tmp_path)]) == []


@pytest.mark.parametrize("count", [1, 2])
def test_in_a_container_one_unknown_process_may_be_the_worker(tmp_path: Path, count: int) -> None:
    """Nor is a process of the host looked up among those of the container."""
    machine(tmp_path, container=True, commands={31000: "somebody else"})
    reading = gpu(processes=tuple(process(31000 + number) for number in range(count)))
    findings = gpu_findings([compare(reading, reading, tmp_path, idle=snapshot(gpu()))])
    if count == 1:
        assert findings == []
    else:
        (finding,) = findings
        assert "31000, 31001" in finding
        assert "only one can be this worker" in finding


def test_in_a_container_who_was_there_before_the_worker_is_a_stranger(tmp_path: Path) -> None:
    machine(tmp_path, container=True, commands={31000: "somebody else"})
    idle = snapshot(gpu(processes=(process(31000, name="/usr/bin/python3"),)))
    reading = gpu(processes=(process(31000, name="/usr/bin/python3"), process(31001)))
    (finding,) = gpu_findings([compare(reading, reading, tmp_path, idle=idle)])
    assert "pid 31000 (/usr/bin/python3), there all along" in finding


def test_what_goes_on_at_other_cards_is_left_out(tmp_path: Path) -> None:
    machine(tmp_path)
    cards = snapshot(gpu("GPU-a"), gpu("GPU-b", pci="00000000:02:00.0"))
    both = gpu_conditions(cards, cards, {WORKER}, root=tmp_path, wall_s=1.0)
    assert [each.uuid for each in of_worker(both, {"GPU-b"})] == ["GPU-b"]
    # Which of two it is nobody knows; the only one is known.
    assert [(each.uuid, each.is_ours) for each in of_worker(both, set())] == [
        ("GPU-a", False),
        ("GPU-b", False),
    ]
    assert [each.is_ours for each in of_worker(both[:1], {None})] == [True]
