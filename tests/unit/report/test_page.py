"""Does one measurement fit on a page without losing a number or a reason?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len

from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import ByteFigure, Measurement, MemoryUse, Workload
from pytest_llmperf.measure.device_memory import DeviceMemory
from pytest_llmperf.measure.engine_clock import ClockComparison
from pytest_llmperf.measure.roofline import Roofline
from pytest_llmperf.report.page import page
from tests.unit.gate.test_contract import measurement, quantity
from tests.unit.measure.test_bottleneck import QUIET, hot_gpu
from tests.unit.report.test_result import laptop

MIB = 2**20
HOW = "1.17 GB a step × 18.3 steps/s = 21.4 GB/s, of 26.1 GB/s measured"


@pytest.fixture
def machine(tmp_path: Path) -> Hardware:
    return laptop(tmp_path)


def exact(mebibytes: int, how: str = "VmHWM, reset after the load") -> ByteFigure:
    return ByteFigure(bytes=mebibytes * MIB, kind="exact", how=how, slack_bytes=256 << 10)


def whole() -> Measurement:
    """Everything that can be measured, with disturbances."""
    seen = measurement(decode_tps=18.3, prefill_tps=112, ttft=4570, itl=54.6, load=0.42)
    share = msgspec.structs.replace(quantity("mbu", 0.82), how=HOW)
    return msgspec.structs.replace(
        seen,
        engine=msgspec.structs.replace(seen.engine, compile_s=0.31),
        workload=Workload(prompt_tokens=512, new_tokens=128, batch=4, depth=1024),
        metrics={**seen.metrics, "mbu": share},
        absent={"mfu": "the matmul rate was not probed"},
        memory=MemoryUse(
            peak=exact(1231),
            load=exact(1222),
            prefill=exact(1231),
            decode=None,
            anon=exact(93),
            file=None,
            pss=ByteFigure(bytes=5 * MIB, kind="bound", how="a bound", low_bytes=3 * MIB),
            processes=2,
            unknown={"decode": "the worker could not start new marks"},
        ),
        devices=[
            DeviceMemory(
                uuid="GPU-1",
                name="RTX 4060 Ti",
                device="cuda:0",
                integrated=False,
                total_bytes=16 << 30,
                used_on_device_bytes=7 << 30,
                difference_bytes=6 << 30,
                worker_bytes=None,
                vram=exact(6000, "peak of torch's allocator"),
                allocated=exact(5500),
                reserved=None,
                foreign=[],
                note="no reserve was told",
            )
        ],
        conditions=msgspec.structs.replace(
            QUIET, unknown={"throttled_share": "no control group"}, disk_read_bytes=3 * MIB
        ),
        gpu_conditions=[hot_gpu(0.02)],
        roofline=Roofline(mbu=0.82, arithmetic=HOW),
        clocks=[ClockComparison(span="decode", ours_s=1, engine_s=0.967)],
        findings=[
            "other processes used 0.93 of 2 cores, which is a long note that has to be folded"
        ],
    )


def test_no_line_is_wider_than_80_columns(machine: Hardware) -> None:
    assert max(cell_len(line) for line in page(whole(), machine).splitlines()) <= 80


@pytest.mark.parametrize(
    "told",
    [
        "fake 1 · llama-160m · 4 × 512+128 tokens at depth 1024",
        "decode 18.3 tok/s one value",
        "load 0.42 s",
        "compile 0.31 s of the load",
        "first token 4570 4570 4570 4570 of 1",
        "peak 1.202 GiB exact ± 256 KiB: VmHWM, reset after the load",
        "decode unknown: the worker could not start new marks",
        "divided 5 MiB bound, not below 3 MiB: a bound",
        "VRAM 5.859 GiB exact ± 256 KiB: peak of torch's allocator",
        "VRAM no reserve was told",
        f"bandwidth 82 % {HOW}",
        "compute – the matmul rate was not probed",
        "decode -3.3 %",
        "own CPU 99% of 2 threads",
        "others 0.01 of 2 cores",
        "disk reads 3 MiB",
        "GPU slowed thermal 2% (GPU-1)",
        "unknown throttled_share: no control group",
        "note: other processes used 0.93 of 2 cores",
        "Decode is limited by memory bandwidth",
    ],
)
def test_every_fact_has_its_place(machine: Hardware, told: str) -> None:
    assert told in " ".join(page(whole(), machine).split())


def test_what_was_not_measured_has_no_row(machine: Hardware) -> None:
    text = page(measurement(ttft=100, load=2), machine)
    for absent in ("memory", "share of what", "conditions", "own clock", "tok/s"):
        assert absent not in text


def test_memory_that_is_unknown_says_why(machine: Hardware) -> None:
    seen = msgspec.structs.replace(measurement(load=2), absent={"ram": "/proc is not mounted"})
    assert "RAM         unknown: /proc is not mounted" in page(seen, machine)


def test_an_invalid_measurement_says_so_above_all_numbers(machine: Hardware) -> None:
    lines = page(measurement(invalid="2 tokens generated, 3 asked for", load=2), machine)
    assert lines.splitlines()[2] == "INVALID: 2 tokens generated, 3 asked for"
