"""Does the sentence name what the evidence says, and nothing when it says nothing?"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.bottleneck import find_bottleneck
from pytest_llmperf.measure.conditions import Conditions
from pytest_llmperf.measure.gpu_conditions import GpuConditions
from pytest_llmperf.measure.roofline import Roofline
from tests.unit.gate.test_contract import measurement

QUIET = Conditions(
    blocks=10,
    wall_s=10,
    threads=2,
    own_cpu_share=0.99,
    cores=2,
    other_cores=0.01,
    steal_cores=0.0,
    resolution_cores=0.01,
    pressure={"io.some": 0.0},
    throttled_share=None,
    throttled_periods=None,
    thermal_share=None,
    thermal_events=None,
    major_faults={"prefill": 0, "decode": 0},
    involuntary_switches=0,
    disk_read_bytes=0,
    reading_ms=0.1,
    unknown={},
    unreadable=[],
)


def seen(mbu: float | None = 0.4, *, device: str = "cpu", **disturbed: Any) -> Measurement:
    """A decode on a quiet machine but for what is given."""
    measured = measurement(decode_tps=20)
    engine = msgspec.structs.replace(measured.engine, device=device)
    absent = {} if mbu is not None else {"mbu": "the weights live in the cache"}
    return msgspec.structs.replace(
        measured,
        engine=engine,
        conditions=msgspec.structs.replace(QUIET, **disturbed),
        roofline=Roofline(mbu=mbu, arithmetic="1 GB × 20 = 20 GB/s, of 25 GB/s"),
        absent=absent,
    )


def hot_gpu(share: float) -> GpuConditions:
    return GpuConditions(
        gpu="GPU-1", uuid=None, slowdown={"thermal": share}, unknown={}, neighbours=[], unclear=[]
    )


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        (
            seen(0.8),
            "Decode is limited by memory bandwidth: 1 GB × 20 = 20 GB/s, of 25 GB/s (80%).",
        ),
        (
            seen(0.4),
            ("Decode is limited by compute: the 2 threads ran 99% of the time, and only 40% "
            "of the memory bandwidth was used."),
        ),
        (
            seen(0.4, own_cpu_share=0.5),
            ("Decode is limited by host overhead: the 2 threads ran 50% of the time, no one "
            "else took the cores, and only 40% of the memory bandwidth was used."),
        ),
        (
            seen(0.8, other_cores=0.9),
            (
                "Decode is limited by CPU contention: 2 threads and 0.89 cores' worth of other "
                "work on 2 cores."
            ),
        ),
        (
            seen(0.8, throttled_share=0.12),
            "Decode is limited by CPU contention: the control group was throttled 12% of the time.",
        ),
        (
            seen(0.8, major_faults={"decode": 412}, pressure={"group.io.some": 0.31}),
            ("Decode is limited by storage: 412 major page faults, and tasks of its control group "
            "waited for storage 31% of the time."),
        ),
        (
            seen(0.8, thermal_share=0.12, other_cores=0.9),
            "Decode is limited by thermal slowdown: it was slowed 12% of the time.",
        ),
        (
            seen(0.4, own_cpu_share=0.8),
            ("What limits decode cannot be told: 40% of the memory bandwidth, and the threads "
            "ran 80% of the time: neither stands out."),
        ),
        (
            seen(0.4, own_cpu_share=0.5, other_cores=5.0, cores=8),
            ("What limits decode cannot be told: 40% of the memory bandwidth, and the threads "
            "ran 50% of the time, but others may have taken part of both."),
        ),
        (
            seen(0.4, own_cpu_share=0.99, threads=1, other_cores=6.8, cores=8),
            ("What limits decode cannot be told: 40% of the memory bandwidth, and the threads "
            "ran 99% of the time, but others may have taken part of both."),
        ),
        (
            seen(None),
            ("What limits decode cannot be told: the share of the memory bandwidth is not known "
            "(the weights live in the cache)."),
        ),
        (
            seen(0.4, own_cpu_share=None),
            ("What limits decode cannot be told: 40% of the memory bandwidth, and the CPU time is "
            "not known."),
        ),
    ],
    ids=[
        "bandwidth", "compute", "host", "contention", "throttled", "storage", "thermal", "neither",
        "taken while idle", "taken while busy",
        "in the cache", "no CPU time",
    ],
)  # fmt: skip
def test_the_sentence_has_its_evidence(measured: Measurement, sentence: str) -> None:
    assert find_bottleneck(measured).sentence == sentence


@pytest.mark.parametrize(
    "measured",
    [
        seen(0.8, other_cores=0.9, cores=16),
        seen(0.8, other_cores=None, steal_cores=None),
        seen(0.8, other_cores=0.19),
        seen(0.8, thermal_share=0.04, throttled_share=0.04),
        seen(0.8, major_faults={"decode": 412}),
        seen(0.8, pressure={"group.io.some": 0.5}),
        seen(0.8, major_faults={"decode": 12}, pressure={"io.some": 0.3}),
        seen(0.8, threads=None, own_cpu_share=None, other_cores=1.5),
    ],
    ids=[
        "room",
        "unknown",
        "little",
        "cool",
        "no wait",
        "no faults",
        "others wait",
        "threads unknown",
    ],
)
def test_what_is_no_disturbance_leaves_the_bandwidth(measured: Measurement) -> None:
    assert find_bottleneck(measured).limit == "memory bandwidth"


def test_a_hot_gpu_is_told() -> None:
    measured = msgspec.structs.replace(seen(0.8), gpu_conditions=[hot_gpu(0.2), hot_gpu(0.0)])
    assert find_bottleneck(measured).limit == "thermal slowdown"


@pytest.mark.parametrize(
    "gpu",
    [
        msgspec.structs.replace(hot_gpu(0.2), is_ours=False),
        msgspec.structs.replace(hot_gpu(0.0), slowdown={"board": 0.2, "power": 0.9}),
    ],
    ids=["perhaps another's", "not by heat"],
)
def test_not_every_slow_gpu_is_a_hot_one_of_ours(gpu: GpuConditions) -> None:
    measured = msgspec.structs.replace(seen(0.8), gpu_conditions=[gpu])
    assert find_bottleneck(measured).limit == "memory bandwidth"


def test_threads_on_the_cpu_say_nothing_of_a_gpu() -> None:
    assert find_bottleneck(seen(0.4, device="cuda:0")).limit is None


def test_nothing_is_said_of_an_invalid_measurement_or_of_none() -> None:
    invalid = msgspec.structs.replace(seen(0.8), invalid="2 tokens generated, 3 asked for")
    assert find_bottleneck(invalid).limit is None
    assert "first token" in find_bottleneck(measurement(ttft=100)).evidence
