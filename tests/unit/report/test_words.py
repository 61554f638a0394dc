"""Do facts read well, and right?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.nvidia import Look
from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.quantity import summarize
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.report import words
from tests.unit.gate.test_contract import measurement
from tests.unit.hardware import trees
from tests.unit.hardware.test_requirement import gpu
from tests.unit.report.test_result import laptop
from tests.unit.worker.test_messages import FILES


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (0.000123, "0.000123"),
        (0.0123, "0.0123"),
        (0.5, "0.50"),
        (1.234, "1.23"),
        (19.14, "19.1"),
        (99.94, "99.9"),
        (100, "100"),
        (123456.7, "123457"),
        (-12.34, "-12.3"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert words.number(value) == text


def test_only_one_thing_is_not_many() -> None:
    assert [words.count(each, "pair") for each in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]


@pytest.mark.parametrize(
    ("metric", "value", "percentile", "text"),
    [
        ("decode_tps", 19.1, None, "decode 19.1 tok/s"),
        ("ttft", 210, 95, "first token p95 210 ms"),
        ("ram", 1.5, None, "RAM 1.50 GiB"),
        ("mbu", 0.71, None, "memory bandwidth used 0.71"),
    ],
)
def test_labels(metric: str, value: float, percentile: int | None, text: str) -> None:
    assert words.labelled(metric, value, percentile) == text


def test_spread() -> None:
    assert words.spread(summarize([18, 19, 20, 21, 22], "tok/s")) == "median of 5, 19.0–21.0"
    assert words.spread(summarize([18], "tok/s")) == "one value"


@pytest.mark.parametrize(
    ("source", "quantization", "text"),
    [
        ("synthetic:llama-160m", None, "llama-160m"),
        ("synthetic:llama-160m", "Q4_K_M", "llama-160m Q4_K_M"),
        ("synthetic:configs/mine/config.json", "BF16", "config.json BF16"),
        ("hf:org/name", "BF16", "name BF16"),
        ("/models/tiny-Q8_0.gguf", "Q8_0", "tiny-Q8_0.gguf"),
        ("/models/folder/", "BF16", "folder BF16"),
    ],
)
def test_models(source: str, quantization: str | None, text: str) -> None:
    files = quantization and msgspec.structs.replace(FILES, quantization=quantization)
    seen = msgspec.structs.replace(measurement(), spec=ModelSpec(source), files=files)
    assert words.model(seen) == text


@pytest.mark.parametrize(
    ("prompts", "text"),
    [
        ("random", "16+8 tokens"),
        ("shipped", "16+8 tokens of text"),
        ("/home/me/prose.txt", "16+8 tokens of prose.txt"),
    ],
)
def test_the_workload(prompts: str, text: str) -> None:
    workload = Workload(prompt_tokens=16, new_tokens=8, prompts=prompts)
    assert words.workload(msgspec.structs.replace(measurement(), workload=workload)) == text


def test_a_machine_without_gpu(tmp_path: Path) -> None:
    assert words.machine(laptop(tmp_path)) == (
        "16 cores 12th Gen Intel(R) Core(TM) i7-1260P (avx_vnni), 15 GB RAM"
    )


def test_a_machine_with_one_core(tmp_path: Path) -> None:
    trees.container(tmp_path, cpu_max="100000 100000")
    here = detect(tmp_path, host=trees.host("x86_64", 64))
    assert words.machine(here).startswith("1 core INTEL")


def test_equal_gpus_are_counted(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    look = Look(accelerators=(gpu(), gpu(), gpu("L4", 23034)))
    here = detect(tmp_path, host=trees.host("x86_64", 16, nvidia=look))
    assert words.machine(here) == "2× RTX 4060 Ti (16 GB), 1× L4 (22 GB)"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (96 << 10, "96 KiB"),
        (1008 << 10, "1008 KiB"),
        (2 << 20, "2 MiB"),
        (1023 << 20, "1023 MiB"),
        (47 << 29, "23.5 GiB"),
    ],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert words.size(size_bytes) == text


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [(19.97, 20.0, "19.97"), (19.1, 20.0, "19.1"), (0.9996, 1.0, "0.9996"), (20.04, 20.0, "20.04")],
)
def test_a_value_never_reads_like_the_limit_it_breaks(
    value: float, limit: float, text: str
) -> None:
    assert words.apart(value, limit) == text


def test_a_limit_reads_as_it_was_written() -> None:
    assert [words.limit(value) for value in (1234567.5, 20.0, 0.05)] == ["1234567.5", "20", "0.05"]


def test_a_long_line_is_folded_and_no_number_parted_from_its_unit() -> None:
    lines = words.folded("  " + "5 % " * 30 + "tests/test_it.py::test_a-b" * 4, 4)
    assert [line[:5] for line in lines] == ["  5 %", "    5", "    t"]
    assert all(line.endswith("%") for line in lines[:-1])
    assert lines[-1] == "    " + "tests/test_it.py::test_a-b" * 4
