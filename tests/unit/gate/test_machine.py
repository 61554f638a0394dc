"""Is what is unlike a test's own history named, and what is usual for it left alone?"""

from __future__ import annotations

import math

import msgspec
import pytest

from pytest_llmperf.gate.machine import changes, conditions_of, core_of, probe_of
from pytest_llmperf.hardware.calibration import Calibration
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


def test_another_build_is_still_the_same_machine() -> None:
    """What no build can cause is compared across builds, what it can is not."""
    calm = [{"other_share": 0.0, "faults": 0.0}] * 3
    now = {"other_share": 0.5, "faults": 500.0}
    assert changes(now, [], calm) == ("other processes used the cores: 50%, usually 0%",)
    assert changes(now, calm, []) == ("major page faults: 500, usually 0",)


def test_tasks_that_wait_for_each_other_are_no_excuse() -> None:
    """Where it is known what others used, the build's own crowding is not the machine's."""
    crowded = msgspec.structs.replace(QUIET, pressure={"cpu.some": 0.9}, other_cores=0.0)
    seen = msgspec.structs.replace(measurement(), conditions=crowded)
    assert "cpu_pressure" not in conditions_of(seen)
    unknown = msgspec.structs.replace(crowded, other_cores=None)
    seen = msgspec.structs.replace(measurement(), conditions=unknown)
    assert conditions_of(seen)["cpu_pressure"] == 0.9


def test_a_compute_process_that_was_never_there() -> None:
    found = changes({"neighbours": 1.0}, [{"neighbours": 0.0}] * 3)
    assert found == ("other compute processes on the GPU: 1, usually 0",)


def test_the_conditions_of_a_measurement() -> None:
    conditions = msgspec.structs.replace(
        QUIET,
        pressure={"cpu.some": 0.4, "memory.some": 0.4, "group.memory.some": 0.3},
        major_faults={"prefill": 2, "decode": 3},
        other_cores=0.5,
    )
    seen = msgspec.structs.replace(
        measurement(), conditions=conditions, probe=PROBE, gpu_conditions=[hot_gpu(0.2)]
    )
    assert conditions_of(seen) == {
        "thermal": 0.2,
        "memory_pressure": 0.3,
        "faults": 5.0,
        "other_share": 0.25,
        "stolen_share": 0.0,
        "neighbours": 0.0,
    }


def rated(median: float) -> Calibration:
    """A probe of so many bytes/s, with quartiles of nearly nothing."""
    return msgspec.structs.replace(
        PROBE, bandwidth_median=median, bandwidth_low=median, bandwidth_high=median + 1
    )


def test_a_machine_that_stood_still_is_the_mean_of_its_two_probes() -> None:
    """Quartiles 37 and 39 of 38 GB/s in 20 repeats: (2/1.349)/38 · √(π/2)/√20, by √2."""
    found = msgspec.structs.replace(measurement(), probe=PROBE, probe_after=PROBE)
    log_probe, error = probe_of(found)
    assert log_probe == pytest.approx(math.log(38e9))
    one = 2 / 1.349 / 38 * math.sqrt(math.pi / 2) / math.sqrt(20)
    assert error == pytest.approx(one / math.sqrt(2), rel=1e-4)


def test_a_machine_that_moved_between_two_probes_is_blurred() -> None:
    found = msgspec.structs.replace(measurement(), probe=rated(60e9), probe_after=rated(40e9))
    log_probe, error = probe_of(found)
    assert log_probe == pytest.approx(math.log(math.sqrt(60e9 * 40e9)))
    assert error == pytest.approx(math.log(1.5) / 2)


def test_without_a_probe_nothing_is_known() -> None:
    assert probe_of(measurement()) == (None, None)


def test_the_speed_of_the_cores_is_that_of_a_kib() -> None:
    """250 ns for a KiB are 4 million KiB in a second."""
    tried = msgspec.structs.replace(QUIET, core_time_ns=250.0, wall_s=1.0)
    found = msgspec.structs.replace(measurement(), conditions=tried)
    assert core_of(found) == pytest.approx(math.log(4e6))


def test_cores_that_were_not_tried_or_only_for_a_moment_tell_nothing() -> None:
    assert core_of(measurement()) is None
    assert core_of(msgspec.structs.replace(measurement(), conditions=QUIET)) is None
    moment = msgspec.structs.replace(QUIET, core_time_ns=250.0, wall_s=0.2)
    assert core_of(msgspec.structs.replace(measurement(), conditions=moment)) is None


def test_a_moment_tells_no_shares() -> None:
    short = msgspec.structs.replace(QUIET, wall_s=0.05)
    assert conditions_of(msgspec.structs.replace(measurement(), conditions=short)) == {}
