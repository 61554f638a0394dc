"""Are the differences summed right, and is what cannot be known left out with a reason?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from pytest_llmperf.hardware import cpu
from pytest_llmperf.hardware.counter_files import Unknown
from pytest_llmperf.hardware.counters import CounterReading, Counters, process_cpu_ns
from pytest_llmperf.measure.conditions import Conditions, ConditionsWatch, summarize
from pytest_llmperf.measure.counter_sums import Block
from pytest_llmperf.measure.disturbances import findings
from pytest_llmperf.worker.usage import Usage, read_usage

SECOND = 10**9
MIB = 2**20
UNREADABLE = Unknown(why="/proc/stat: Permission denied", unreadable=True)
START = {
    "worker.cpu_ns": 50 * SECOND,
    "cores.busy_ns": 900 * SECOND,
    "cores.steal_ns": 5 * SECOND,
    "cores.all_ns": 4000 * SECOND,
    "pressure.cpu.some": 70 * SECOND,
    "pressure.io.full": 7 * SECOND,
    "group.throttled_ns": 3 * SECOND,
    "group.periods": 30,
    "heat.package0.slow_ns": 0,
    "heat.package0.events": 2,
    "heat.package1.slow_ns": 9 * SECOND,
    "heat.package1.events": 9,
    "disk.read_bytes": 10**12,
}
CALM = {"worker.cpu_ns": 2 * SECOND, "cores.busy_ns": 2 * SECOND, "cores.all_ns": 2 * SECOND}
"""What a second brings when two threads on two cores are alone."""


def usage(at_s: float, cpu_s: float = 0.0, *, faults: int = 0, switches: int = 0) -> Usage:
    return Usage(
        at_ns=round(at_s * SECOND),
        cpu_s=cpu_s,
        major_faults=faults,
        minor_faults=0,
        disk_read_bytes=0,
        involuntary_switches=switches,
    )


def block(
    growth: dict[str, int],
    *,
    usages: list[Usage] | None = None,
    unknown: dict[str, Unknown] | None = None,
    lasting_s: float = 1.0,
) -> Block:
    """A sample in which the counters grew by ``growth``; it cannot tell ``unknown``."""
    missing = unknown or {}

    def reading(wall_s: float, grown: dict[str, int]) -> CounterReading:
        counters = {
            name: value + grown.get(name, 0)
            for name, value in START.items()
            if not name.startswith(tuple(missing))
        }
        return CounterReading(
            wall_ns=round(wall_s * SECOND), cost_ns=9, counters=counters, unknown=missing
        )

    return Block(
        before=reading(1, {}),
        after=reading(1 + lasting_s, growth),
        usages=usages or [usage(0), usage(0.2), usage(1)],
    )


def conditions(*blocks: Block, threads: int | None = 2, cores: int = 2) -> Conditions:
    return summarize(blocks, threads=threads, cores=cores, tick_s=0.01)


def found(growth: dict[str, int]) -> list[str]:
    return findings(conditions(block({**CALM, **growth})))


def test_a_worker_that_is_alone_was_disturbed_by_nothing() -> None:
    calm = conditions(block(CALM, usages=[usage(0, 5), usage(0.2, 5.4), usage(1, 6.9)]))
    assert findings(calm) == []
    assert (calm.other_cores, calm.steal_cores, calm.throttled_share) == (0.0, 0.0, 0.0)
    assert (calm.thermal_share, calm.thermal_events, calm.disk_read_bytes) == (0.0, 0, 0)
    assert calm.own_cpu_share == pytest.approx(1.5 / 0.8 / 2)  # the decode's
    assert calm.major_faults == {"prefill": 0, "decode": 0}
    assert calm.unknown == {}


def test_differences_are_summed_over_samples_and_what_lies_between_is_not() -> None:
    busy = block({**CALM, "worker.cpu_ns": SECOND, "pressure.cpu.some": SECOND // 2})
    seen = conditions(block(CALM), busy, block(CALM), busy)
    assert seen.blocks == 4
    assert seen.wall_s == 4.0
    assert seen.other_cores == pytest.approx(0.5)
    assert seen.pressure == {"cpu.some": 0.25, "io.full": 0.0}


def test_faults_belong_to_the_phase_in_which_they_happened() -> None:
    first = [usage(0, faults=100), usage(0.2, faults=103), usage(1, faults=400)]
    second = [usage(0, faults=450), usage(0.2, faults=450), usage(1, faults=565)]
    seen = conditions(block(CALM, usages=first), block(CALM, usages=second))
    assert seen.major_faults == {"prefill": 3, "decode": 412}
    assert findings(seen) == ["412 major page faults in decode: the weights were not all in memory"]


def test_lost_cores_are_those_of_the_worker_from_its_first_to_its_last_border() -> None:
    seen = conditions(
        block(CALM, usages=[usage(0, switches=5), usage(0.2, switches=6), usage(1, switches=12)])
    )
    assert seen.involuntary_switches == 7


@pytest.mark.parametrize(
    ("growth", "finding"),
    [
        ({"worker.cpu_ns": 107 * SECOND // 100}, "other processes used 0.93 of 2 cores"),
        ({"cores.steal_ns": 31 * SECOND // 100}, "0.31 of 2 cores were stolen by the host"),
        # Two threads were each held for 120 ms.
        (
            {"group.throttled_ns": 24 * SECOND // 100},
            "the control group was throttled 12 % of the time",
        ),
        ({"heat.package1.slow_ns": 12 * SECOND // 100}, "thermal slowdown 12 % of the time"),
        ({"heat.package0.events": 3}, "the processor began to slow down for heat, 3 ×"),
        ({"disk.read_bytes": 1229 * MIB}, "read 1.2 GiB from disk while measuring"),
        ({"disk.read_bytes": 20 * MIB}, "read 20.0 MiB from disk while measuring"),
    ],
)
def test_each_disturbance_is_one_sentence_with_its_number(
    growth: dict[str, int], finding: str
) -> None:
    assert found(growth) == [finding]


@pytest.mark.parametrize(
    "growth",
    [
        {"worker.cpu_ns": 195 * SECOND // 100},
        {"cores.steal_ns": SECOND // 100},
        {"group.throttled_ns": SECOND // 100},
        {"heat.package1.slow_ns": SECOND // 200},
        {"disk.read_bytes": 2 * MIB},
        {"pressure.cpu.some": SECOND, "pressure.io.full": SECOND},
    ],
    ids=lambda growth: next(iter(growth)),
)
def test_what_is_usual_is_not_told(growth: dict[str, int]) -> None:
    assert found(growth) == []


@pytest.mark.parametrize(
    ("pressure", "told"),
    [
        ({"io.some": 0.35}, ["tasks of this machine waited for storage 35 % of the time"]),
        ({"io.some": 0.29}, []),
        (
            {"group.io.some": 0.3, "io.some": 0.9},
            ["tasks of this control group waited for storage 30 % of the time"],
        ),
        ({"group.io.some": 0.0, "io.some": 1.0}, []),
    ],
)
def test_waiting_for_storage_is_told_of_the_own_group_where_it_is_known(
    pressure: dict[str, float], told: list[str]
) -> None:
    seen = msgspec.structs.replace(conditions(block(CALM)), pressure=pressure)
    assert findings(seen) == told


def test_others_within_the_resolution_of_the_ticks_are_not_told() -> None:
    """50 ms on two cores in one sample: the two of them cannot be told from rounding."""
    growth = {name: value // 20 for name, value in CALM.items()}
    growth["worker.cpu_ns"] -= 10**7
    seen = conditions(block(growth, lasting_s=0.05))
    assert seen.other_cores == pytest.approx(0.2)
    assert seen.resolution_cores == pytest.approx(0.33, abs=0.01)
    assert findings(seen) == []


def test_samples_shorter_than_the_ticks_say_nothing_of_others() -> None:
    seen = conditions(*[block({}, lasting_s=0.002)] * 10)
    assert seen.other_cores is None
    assert seen.unknown["other_cores"] == (
        "the samples lasted 20 ms, too short for the kernel's ticks"
    )
    assert findings(seen) == []


def test_a_sandbox_whose_times_stand_still_is_not_taken_for_a_calm_machine() -> None:
    seen = conditions(block({"worker.cpu_ns": 2 * SECOND}))
    assert seen.other_cores is None
    assert seen.steal_cores is None
    assert seen.unknown["steal_cores"] == "the times of /proc/stat stand still"


def test_a_worker_busier_than_all_cores_proves_that_the_two_do_not_belong_together() -> None:
    seen = conditions(block({**CALM, "cores.busy_ns": SECOND // 5}))
    assert seen.other_cores is None
    assert seen.unknown["other_cores"] == (
        "the worker used 2.00 cores, /proc/stat counts 0.20 for all"
    )


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("cores.steal_ns", "steal_cores"),
        ("group.throttled_ns", "throttled_share"),
        ("disk.read_bytes", "disk_read_bytes"),
        ("heat.package0.slow_ns", "thermal_share"),
    ],
)
def test_a_counter_that_goes_backwards_is_unknown_and_the_rest_stays(name: str, field: str) -> None:
    seen = conditions(block(CALM), block({**CALM, name: -1}), block(CALM))
    assert getattr(seen, field) is None
    assert seen.unknown == {field: f"{name} went backwards"}
    assert seen.other_cores == 0.0
    assert findings(seen) == []


def test_pressure_that_goes_backwards_is_unknown_and_other_pressure_stays() -> None:
    seen = conditions(block({**CALM, "pressure.io.full": -1}))
    assert seen.pressure == {"cpu.some": 0.0}
    assert seen.unknown == {"pressure.io.full": "pressure.io.full went backwards"}


def test_what_every_linux_tells_and_this_one_does_not_is_one_finding() -> None:
    seen = conditions(block(CALM, unknown={"cores": UNREADABLE}))
    assert (seen.other_cores, seen.steal_cores) == (None, None)
    assert findings(seen) == [
        "unknown conditions: other_cores, steal_cores (/proc/stat: Permission denied)"
    ]


def test_one_unreadable_sample_makes_the_sum_unknown_rather_than_too_small() -> None:
    seen = conditions(block(CALM), block(CALM, unknown={"disk": UNREADABLE}))
    assert seen.disk_read_bytes is None
    assert seen.unreadable == ["disk_read_bytes"]


def test_pressure_that_one_sample_lacks_is_named_once() -> None:
    unreadable = Unknown(why="/proc/pressure/io: Input/output error", unreadable=True)
    seen = conditions(block(CALM), block(CALM, unknown={"pressure.io": unreadable}))
    assert seen.pressure == {"cpu.some": 0.0}
    assert seen.unknown == {"pressure.io.full": unreadable.why}


def test_what_a_machine_need_not_have_is_unknown_without_a_finding() -> None:
    none = {
        "pressure": Unknown(why="the kernel counts no pressure (PSI)"),
        "group": Unknown(why="no control group that limits CPU time can be seen"),
        "heat": Unknown(why="the processor's driver counts no thermal slowdown"),
    }
    seen = conditions(block(CALM, unknown=none))
    assert (seen.pressure, seen.throttled_share, seen.thermal_share) == ({}, None, None)
    assert seen.unknown == {
        "pressure": none["pressure"].why,
        "throttled_share": none["group"].why,
        "throttled_periods": none["group"].why,
        "thermal_share": none["heat"].why,
        "thermal_events": none["heat"].why,
    }
    assert findings(seen) == []


def test_a_worker_without_usage_leaves_its_part_unknown() -> None:
    seen = conditions(block(CALM), msgspec.structs.replace(block(CALM), usages=[]))
    assert seen.major_faults == {}
    assert (seen.own_cpu_share, seen.involuntary_switches) == (None, None)
    assert set(seen.unknown) == {"own_cpu_share", "major_faults", "involuntary_switches"}
    assert seen.other_cores == 0.0


def test_without_the_number_of_threads_there_is_no_share_of_them() -> None:
    seen = conditions(block({**CALM, "group.throttled_ns": 2 * SECOND}), threads=None)
    assert seen.own_cpu_share is None
    assert seen.unknown == {"own_cpu_share": "the engine does not tell how many threads compute"}
    assert seen.throttled_share == 1.0


def test_a_large_machine_is_never_quiet() -> None:
    growth = {
        "worker.cpu_ns": 63 * SECOND,
        "cores.busy_ns": 64 * SECOND,
        "cores.all_ns": 64 * SECOND,
    }
    seen = conditions(block(growth), threads=64, cores=64)
    assert seen.other_cores == pytest.approx(1.0)
    assert findings(seen) == []


def test_no_sample_says_nothing_at_all() -> None:
    nothing = conditions()
    assert nothing.blocks == 0
    assert (nothing.other_cores, nothing.own_cpu_share, nothing.disk_read_bytes) == (None,) * 3
    assert set(nothing.unknown.values()) == {"no sample was measured"}
    assert findings(nothing) == []


def test_conditions_survive_the_result_file() -> None:
    seen = conditions(block({**CALM, "cores.steal_ns": SECOND}), threads=None)
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Conditions) == seen


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """A process that computes without end."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def test_a_busy_neighbour_is_seen(neighbour: subprocess.Popen[bytes]) -> None:
    """However late it gets its turn: the sample lasts until it has used half a second."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        watch = ConditionsWatch(Counters(worker.pid, cpu.affinity()), threads=2)
        watch.before()
        began_ns = process_cpu_ns(neighbour.pid)
        while process_cpu_ns(neighbour.pid) - began_ns < SECOND // 2:
            time.sleep(0.02)
        border = read_usage()
        assert border is not None
        watch.after([border, border, border])
        worker.kill()
    seen = watch.summary()
    assert seen.other_cores is not None
    assert seen.other_cores * seen.wall_s > 0.4
    assert any("other processes used" in finding for finding in findings(seen))
