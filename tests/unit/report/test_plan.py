"""Is a plan readable at 80 columns?"""

from __future__ import annotations

import msgspec

from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.room import Room
from pytest_llmperf.fit.speed import Speed
from pytest_llmperf.fit.wanted import read_budget
from pytest_llmperf.report.plan import budget_line, plan_lines, reason_lines, room_line
from tests.unit.fit.models import GIB
from tests.unit.fit.test_wanted import ROW

UNFIT = msgspec.structs.replace(
    ROW, fit=Fit.NO, reasons=("needs 9.0 GB VRAM",), speed=Speed(), quantization="F16"
)


def test_a_row_has_its_context_its_parts_its_speed_and_its_place() -> None:
    head, rule, line = plan_lines([ROW])
    assert len(rule) == 80
    assert line.split() == ["Q4_K_M", "4096", "4.0", "1.0", "6.0–7.0", "25.0", "300", "GPU"]
    assert head.index("runs on") == line.index("GPU")


def test_no_row_is_wider_than_a_terminal() -> None:
    wide = msgspec.structs.replace(
        ROW,
        quantization="IQ3_XXS",
        context_tokens=1048576,
        where="128/129 on 8 GPUs",
        fit=Fit.TIGHT,
    )
    assert all(len(line) <= 80 for line in plan_lines([ROW, UNFIT, wide]))


def test_what_does_not_fit_says_so_and_why() -> None:
    assert plan_lines([UNFIT])[-1].endswith("–        – does not fit")
    (reason,) = reason_lines([UNFIT, ROW])
    assert reason == "F16 at 4096 tokens does not fit: needs 9.0 GB VRAM."


def test_tight_is_said() -> None:
    assert plan_lines([msgspec.structs.replace(ROW, fit=Fit.TIGHT)])[-1].endswith("GPU tight")


def test_a_ceiling_is_marked_and_explained() -> None:
    ceiling = msgspec.structs.replace(ROW, speed=Speed(decode_tps=101.2, is_ceiling=True))
    assert "≤101" in plan_lines([ceiling])[-1]
    assert reason_lines([ceiling])[0].startswith("≤: what the memory allows")


def test_a_budget_names_what_it_picked() -> None:
    budget = read_budget("tps>=20,vram<=6")
    asked = "tps >= 20 tok/s, vram <= 6 GiB"
    assert budget_line(budget, ROW) == f"{asked}: Q4_K_M at 4096 tokens, on GPU."
    assert budget_line(budget, None, [ROW]) == f"No row surely meets {asked}."
    unknown = [ROW, msgspec.structs.replace(ROW, speed=Speed())]
    told = budget_line(budget, None, unknown)
    assert told.startswith(f"No row surely meets {asked}. A speed counts if")
    memory = read_budget("vram<=6")
    assert budget_line(memory, None) == "No row surely meets vram <= 6 GiB."


def test_a_room_is_told_by_its_pools() -> None:
    assert room_line(Room(name="stated", ram=16 * GIB, vram=(8 * GIB,))) == (
        "stated: 8.0 GiB VRAM, 16.0 GiB RAM"
    )
    assert room_line(Room(name="Jetson", ram=6 * GIB, is_shared=True)) == (
        "Jetson: 6.0 GiB RAM shared with the GPU"
    )
