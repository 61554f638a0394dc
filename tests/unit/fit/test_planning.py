"""Does a plan made in Python say what the command prints?"""

from __future__ import annotations

import json

import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.fit.planning import plan
from pytest_llmperf.fit.room import room_of, stated_room


def test_it_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "mistral-7b", "--vram", "8", "--ram", "16", "--context", "2048", "--json"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)["rows"]
    rows = plan("mistral-7b", stated_room(ram_gb=16, vram_gb=8))
    assert [(each.quantization, each.fit.value, each.total.high) for each in rows] == [
        (each["quantization"], each["fit"], each["total"]["high"]) for each in printed
    ]


def test_a_row_for_each_quantization_and_context() -> None:
    rows = plan(
        "phi-2",
        room_of("jetson-orin-nano"),
        quantizations=["Q4_K_M", "Q8_0"],
        contexts=[512, 2048],
        sequences=2,
    )
    assert [(each.quantization, each.context_tokens) for each in rows] == [
        ("Q4_K_M", 512),
        ("Q4_K_M", 2048),
        ("Q8_0", 512),
        ("Q8_0", 2048),
    ]
    assert {each.sequences for each in rows} == {2}
    small, large = rows[:2]
    assert large.kv_cache == 4 * small.kv_cache


def test_stated_memory_is_in_gib_and_of_each_gpu() -> None:
    room = stated_room(ram_gb=1.5, vram_gb=[8, 4], bandwidth_bytes_per_s=1e9)
    assert (room.ram, room.vram) == (3 << 29, (8 << 30, 4 << 30))
    assert (room.cpu_limits.bandwidth, room.gpu_limits.bandwidth) == (None, 1e9)
    assert stated_room(ram_gb=1, bandwidth_bytes_per_s=1e9).cpu_limits.bandwidth == 1e9
