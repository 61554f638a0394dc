"""Is every counter read from where the kernel keeps it, and is what cannot be read explained?

The trees are *constructed* from the documentation that counter_files.py cites: none was captured on
a device.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Set
from pathlib import Path

import pytest

from pytest_llmperf.hardware import cpu
from pytest_llmperf.hardware.counter_files import CounterFile, Unknown
from pytest_llmperf.hardware.counters import CounterReading, Counters, process_cpu_ns
from tests.unit.hardware.trees import write

PID = 4711
CPU_NS = 7_000_000_000
SECOND = 10**9

STAT = (
    "cpu  1000 0 500 9000 100 0 50 30 0 0\n"
    "cpu0 100 10 50 4000 50 5 15 20 70 0\n"
    "cpu1 400 0 100 3000 50 0 0 10 0 0\n"
    "cpu10 500 0 350 2000 0 0 35 0 0 0\n"
    "intr 99999 0 0 1\nctxt 12345\n"
)
"""A tick is 10 ms: 100 of them are a second."""
PRESSURE = (
    "some avg10=0.00 avg60=0.00 avg300=0.97 total=97423366\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=1234\n"
)
MACHINE = {
    "proc/stat": STAT,
    "proc/pressure/cpu": PRESSURE,
    "proc/pressure/io": PRESSURE,
    "proc/pressure/memory": PRESSURE,
}


def counters(root: Path, affinity: Set[int] | None = frozenset({0, 1})) -> Counters:
    return Counters(PID, affinity, root, cpu_clock=lambda pid: CPU_NS, platform="linux")


def reading(root: Path, affinity: Set[int] | None = frozenset({0, 1})) -> CounterReading:
    return counters(root, affinity).read()


def why(value: int | Unknown) -> str:
    assert isinstance(value, Unknown)
    return value.why


def test_time_is_summed_over_the_cores_that_may_be_used_and_over_no_others(tmp_path: Path) -> None:
    write(tmp_path, MACHINE)
    seen = reading(tmp_path)
    assert seen.value("cores.busy_ns") == (180 + 500) * SECOND // 100
    assert seen.value("cores.steal_ns") == (20 + 10) * SECOND // 100
    assert seen.value("cores.all_ns") == (4250 + 3560) * SECOND // 100
    assert seen.value("worker.cpu_ns") == CPU_NS


def test_without_an_affinity_every_core_counts(tmp_path: Path) -> None:
    write(tmp_path, MACHINE)
    assert reading(tmp_path, None).value("cores.busy_ns") == (180 + 500 + 885) * SECOND // 100


def test_a_core_that_was_taken_away_makes_the_sum_unknown(tmp_path: Path) -> None:
    write(tmp_path, MACHINE)
    seen = reading(tmp_path, frozenset({1, 3}))
    assert why(seen.value("cores.busy_ns")) == f"{tmp_path}/proc/stat: has no line for core 3"
    assert seen.value("worker.cpu_ns") == CPU_NS


def test_pressure_of_the_system_and_of_the_own_group_are_kept_apart(tmp_path: Path) -> None:
    own = "sys/fs/cgroup/ci.slice/job-7.scope"
    write(
        tmp_path,
        {
            **MACHINE,
            "proc/self/cgroup": "0::/ci.slice/job-7.scope\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu io memory\n",
            f"{own}/cgroup.events": "populated 1\nfrozen 0\n",
            f"{own}/io.pressure": "some avg10=0.00 total=5\nfull avg10=0.00 total=3\n",
            "sys/fs/cgroup/ci.slice/io.pressure": "some total=999\nfull total=999\n",
        },
    )
    seen = reading(tmp_path).counters
    assert {name: ns for name, ns in seen.items() if name.startswith("pressure.")} == {
        "pressure.cpu.some": 97_423_366_000,
        "pressure.io.some": 97_423_366_000,
        "pressure.io.full": 1_234_000,
        "pressure.memory.some": 97_423_366_000,
        "pressure.memory.full": 1_234_000,
        "pressure.group.io.some": 5_000,
        "pressure.group.io.full": 3_000,
    }


def test_the_group_of_the_whole_system_is_not_told_twice(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            **MACHINE,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu io memory\n",
            "sys/fs/cgroup/io.pressure": PRESSURE,
        },
    )
    assert not any(".group." in name for name in reading(tmp_path).counters)


def test_a_kernel_without_pressure_is_no_fault(tmp_path: Path) -> None:
    write(tmp_path, {"proc/stat": STAT})
    assert reading(tmp_path).unknown["pressure"] == Unknown(
        why="the kernel counts no pressure (PSI)"
    )


@pytest.mark.parametrize(
    ("tight", "loose"), [("job", ""), ("", "job")], ids=["own group", "group above"]
)
def test_the_tightest_v2_group_tells_of_throttling(tmp_path: Path, tight: str, loose: str) -> None:
    top = Path("sys/fs/cgroup")
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/job\n",
            f"{top}/cgroup.controllers": "cpu\n",
            f"{top / tight}/cpu.max": "150000 100000\n",
            f"{top / tight}/cpu.stat": "usage_usec 9\nnr_periods 80\nnr_throttled 8\n"
            "throttled_usec 250000\nnr_bursts 0\n",
            f"{top / loose}/cpu.max": "800000 100000\n",
            f"{top / loose}/cpu.stat": "nr_throttled 0\nthrottled_usec 0\n",
        },
    )
    seen = reading(tmp_path)
    assert seen.value("group.throttled_ns") == SECOND // 4
    assert seen.value("group.periods") == 8


def test_throttling_of_a_v1_group_is_in_nanoseconds_already(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/cpu,cpuacct/docker/0123"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/0123\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            f"{group}/cpu.cfs_quota_us": "200000\n",
            f"{group}/cpu.cfs_period_us": "100000\n",
            f"{group}/cpu.stat": "nr_periods 53\nnr_throttled 24\nthrottled_time 207701052\n",
        },
    )
    assert reading(tmp_path).value("group.throttled_ns") == 207_701_052


def test_without_a_limit_throttling_is_unknown_and_no_fault(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/cpu.stat": "usage_usec 9\n",
        },
    )
    missing = reading(tmp_path).value("group.throttled_ns")
    assert missing == Unknown(why="no control group that limits CPU time can be seen")


def test_only_whole_disks_count_and_each_once(tmp_path: Path) -> None:
    devices = ("nvme0n1", "sda", "dm-0", "md0", "loop0", "zram0", "nvme1c0n1")
    tree = {f"sys/block/{name}/size": "1000\n" for name in devices}
    tree |= {
        "sys/block/dm-0/slaves/sda2/dev": "8:2\n",
        "sys/block/md0/slaves/nvme0n1/dev": "259:0\n",
        "sys/block/nvme1c0n1/hidden": "1\n",
        "sys/block/sda/hidden": "0\n",
        "proc/diskstats": "".join(
            f" 8 {minor} {name} 10 0 {sectors} 7 1 0 8 1 0 4 8 0 0 0 0\n"
            for minor, (name, sectors) in enumerate(
                {**dict.fromkeys(devices, 10_000), "nvme0n1": 2000, "sda": 48, "sda2": 48}.items()
            )
        ),
    }
    (tmp_path / "sys/block/sda/slaves").mkdir(parents=True)
    write(tmp_path, tree)
    assert reading(tmp_path).value("disk.read_bytes") == 2048 * 512


def test_thermal_slowdown_is_told_by_package(tmp_path: Path) -> None:
    tree: dict[str, str] = {}
    for core, package in enumerate((0, 0, 1, 1)):
        folder = f"sys/devices/system/cpu/cpu{core}"
        tree |= {
            f"{folder}/topology/physical_package_id": f"{package}\n",
            f"{folder}/thermal_throttle/package_throttle_total_time_ms": f"{1000 + package}\n",
            f"{folder}/thermal_throttle/package_throttle_count": f"{5 + package}\n",
            f"{folder}/thermal_throttle/core_throttle_total_time_ms": "77\n",
        }
    write(tmp_path, tree)
    seen = reading(tmp_path, frozenset({0, 1, 2})).counters
    assert {name: value for name, value in seen.items() if name.startswith("heat.")} == {
        "heat.package0.slow_ns": SECOND,
        "heat.package0.events": 5,
        "heat.package1.slow_ns": SECOND + 10**6,
        "heat.package1.events": 6,
    }


def test_a_processor_without_package_sensors_tells_of_its_usable_cores(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_{what}": f"{core}\n"
            for core in (0, 1, 2)
            for what in ("total_time_ms", "count")
        },
    )
    seen = reading(tmp_path).counters
    assert seen["heat.cpu1.slow_ns"] == 10**6
    assert "heat.cpu2.slow_ns" not in seen


def test_each_place_that_cannot_tell_its_heat_has_its_own_reason() -> None:
    seen = CounterReading(
        wall_ns=0,
        cost_ns=0,
        counters={},
        unknown={f"heat.package{each}": Unknown(why=f"lost {each}") for each in (0, 1, 2)},
    )
    assert why(seen.value("heat.package1.events")) == "lost 1"
    assert why(seen.value("disk.read_bytes")) == "not counted here"


def test_pressure_that_was_switched_off_for_a_group_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: str) -> str:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    found = CounterFile("pressure.group.io", tmp_path / "io.pressure", lambda text: {}).read()
    assert found == Unknown(why=f"{tmp_path}/io.pressure: Operation not supported")


@pytest.mark.parametrize(
    "stat",
    ["cpu  1 2\ncpu0 1 2 3\ncpu1 1 2 3\n", "cpu0 a b c d e f g h\n", ""],
    ids=["too few columns", "no numbers", "empty"],
)
def test_a_file_of_another_form_is_unknown_and_worth_telling(tmp_path: Path, stat: str) -> None:
    write(tmp_path, {**MACHINE, "proc/stat": stat})
    seen = reading(tmp_path)
    missing = seen.value("cores.busy_ns")
    assert isinstance(missing, Unknown)
    assert missing.unreadable
    assert "proc/stat: " in missing.why
    assert "pressure.io.full" in seen.counters


def test_a_file_that_vanishes_later_is_named_and_the_rest_stays(tmp_path: Path) -> None:
    write(tmp_path, MACHINE)
    watched = counters(tmp_path)
    assert isinstance(watched.read().value("pressure.io.full"), int)
    (tmp_path / "proc/pressure/io").unlink()
    seen = watched.read()
    assert why(seen.value("pressure.io.full")) == (
        f"{tmp_path}/proc/pressure/io: No such file or directory"
    )
    assert seen.value("pressure.memory.full") == 1_234_000


def test_a_worker_that_is_gone_leaves_its_own_time_unknown(tmp_path: Path) -> None:
    write(tmp_path, MACHINE)

    def gone(pid: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    seen = Counters(PID, {0}, tmp_path, cpu_clock=gone, platform="linux").read()
    assert why(seen.value("worker.cpu_ns")) == "CPU clock of process 4711: Invalid argument"
    assert isinstance(seen.value("cores.busy_ns"), int)


def test_without_proc_nothing_is_known_and_the_reader_hears_of_it(tmp_path: Path) -> None:
    seen = reading(tmp_path)
    assert set(seen.counters) == {"worker.cpu_ns"}
    assert seen.unknown["cores"].unreadable
    assert seen.unknown["disk"].unreadable


def test_another_system_counts_nothing_of_this(tmp_path: Path) -> None:
    write(tmp_path, MACHINE)
    seen = Counters(PID, None, tmp_path, platform="darwin").read()
    assert not seen.counters
    assert why(seen.value("cores.busy_ns")) == "darwin does not count it as Linux does"
    assert not any(missing.unreadable for missing in seen.unknown.values())


def test_this_machine_counts_what_this_process_uses() -> None:
    watched = Counters(os.getpid(), cpu.affinity())
    before = watched.read()
    until_ns = process_cpu_ns(os.getpid()) + SECOND // 5
    while time.process_time_ns() < until_ns:
        pass
    after = watched.read()
    for name, least_ns in (("worker.cpu_ns", SECOND // 5), ("cores.busy_ns", SECOND // 10)):
        then, now = before.value(name), after.value(name)
        assert isinstance(then, int)
        assert isinstance(now, int)
        assert now - then >= least_ns, name
