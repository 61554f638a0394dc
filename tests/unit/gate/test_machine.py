"""Is what is unlike a test's own history named, and what is usual for it left alone?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.gate.machine import changes, conditions_of
from tests.unit.gate.test_contract import measurement
from tests.unit.measure.test_bottleneck import QUIET, hot_gpu
from tests.unit.measure.test_roofline import PROBE

BUSY = [{"cpu_pressure": share} for share in (0.48, 0.52, 0.50, 0.51)]


@pytest.mark.parametrize(("share", "told"), [(0.55, False), (0.64, False), (0.70, True)])
def test_pressure_is_judged_by_what_is_usual(share: float, told: bool) -> None:
    found = changes({"cpu_pressure": share}, BUSY)
    assert bool(found) is told
    if told:
        assert found == ("tasks waited for a CPU: 70%, usually 50%",)


def test_a_restless_history_allows_more() -> None:
    restless = [{"cpu_pressure": share} for share in (0.1, 0.5, 0.3, 0.7)]
    assert changes({"cpu_pressure": 0.9}, restless) == ()


def test_a_young_history_says_nothing() -> None:
    assert changes({"thermal": 0.9}, [{"thermal": 0.0}] * 2) == ()
    assert changes({"thermal": 0.9}, [{"thermal": 0.0}] * 3) != ()


def test_what_is_not_known_now_or_was_never_is_not_compared() -> None:
    assert changes({}, BUSY) == ()
    assert changes({"io_pressure": 0.9}, BUSY) == ()


@pytest.mark.parametrize(
    ("rate", "told"), [(40e9, False), (46e9, False), (34e9, False), (50e9, True), (30e9, True)]
)
def test_another_memory_bandwidth_is_another_machine(rate: float, told: bool) -> None:
    history = [{"bandwidth": each} for each in (39e9, 40e9, 41e9)]
    assert bool(changes({"bandwidth": rate}, history)) is told


def test_a_machine_with_two_speeds_is_known_for_it() -> None:
    history = [{"bandwidth": each} for each in (38e9, 70e9, 38e9, 70e9)]
    assert changes({"bandwidth": 70e9}, history) == ()


def test_a_compute_process_that_was_never_there() -> None:
    found = changes({"neighbours": 1.0}, [{"neighbours": 0.0}] * 3)
    assert found == ("other compute processes on the GPU: 1, usually 0",)


def test_the_conditions_of_a_measurement() -> None:
    conditions = msgspec.structs.replace(
        QUIET,
        pressure={"cpu.some": 0.4, "group.cpu.some": 0.3},
        major_faults={"prefill": 2, "decode": 3},
        other_cores=0.5,
    )
    seen = msgspec.structs.replace(
        measurement(), conditions=conditions, probe=PROBE, gpu_conditions=[hot_gpu(0.2)]
    )
    assert conditions_of(seen) == {
        "thermal": 0.2,
        "cpu_pressure": 0.3,
        "faults": 5.0,
        "other_share": 0.25,
        "stolen_share": 0.0,
        "neighbours": 0.0,
        "bandwidth": 40e9,
    }


def test_a_moment_tells_no_shares() -> None:
    short = msgspec.structs.replace(QUIET, wall_s=0.05)
    assert conditions_of(msgspec.structs.replace(measurement(), conditions=short)) == {}
