"""Does the table keep within the terminal without losing a number or a name?"""

from __future__ import annotations

import re

import msgspec
import pytest
from rich.cells import cell_len

from pytest_llmperf.report.result import JudgedTest  # pytest would collect Test…
from pytest_llmperf.report.table import table_text
from tests.unit.gate.test_contract import measurement
from tests.unit.report.test_failure import DECODE, longer, look
from tests.unit.report.test_result import judge_it, one_test

NUMBERS = ["19.1", "12345", "123456", "12.3", "1.53"]
LIMITS = ["≥ 20", "≥ 20000", "≤ 150000", "≤ 100", "≤ 2.5"]
CASES = [
    "chat",
    "chat[Q4_K_M-synthetic:llama-160m]",
    "chat[red]",
    "chat[[red]text[/red]]",
    "chat[/]",
    r"chat[\[red]x]",
    "chat[:warning:]",
    "chat[std::vector-a::b]",
    "chat[日本語日本語日本語日本語日本語日本語日本語]",
    "chat_with_a_name_that_goes_on_" + "and_on_" * 20,
]


def full(name: str) -> JudgedTest:
    """A test with a limit on every number that the table has a column for, and on others."""
    seen = measurement(
        decode_tps=19.1, prefill_tps=12345, ttft=123456, load=12.3, ram=1.53, itl=5, e2e=999999
    )
    judged = judge_it(
        seen,
        min_tps=20,
        min_prefill_tps=20000,
        max_ttft_ms=150000,
        max_load_s=100,
        max_ram_gb=2.5,
        max_itl_p99_ms=50,
        max_e2e_ms=500000,
        max_vram_gb=6,
    )
    return one_test(judged, test=f"tests/test_chat.py::TestChat::test_{name}")


def words_of(text: str) -> list[str]:
    return text.replace("≥ ", "≥").replace("≤ ", "≤").split()


@pytest.mark.parametrize("name", CASES)
def test_no_line_is_wider_than_the_terminal(name: str) -> None:
    text = table_text([full(name)], 80, color=False)
    assert max(cell_len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("name", CASES)
def test_no_number_limit_or_verdict_is_cut(name: str) -> None:
    text = table_text([full(name)], 80, color=False)
    shown = words_of(text)
    for whole in [*NUMBERS, *(limit.replace(" ", "") for limit in LIMITS), "OVER_BUDGET"]:
        assert whole in shown
    assert "…" not in text


@pytest.mark.parametrize("name", CASES)
def test_no_letter_of_the_name_is_lost(name: str) -> None:
    lines = table_text([full(name)], 80, color=False).splitlines()
    first_column = "".join(re.split(" {2,}", line.strip())[0] for line in lines)
    assert f"test_{name}fakellama-160m" in first_column.replace(" ", "")


def test_the_whole_table() -> None:
    seen = measurement(decode_tps=19.1, prefill_tps=250, ttft=512, load=2.5)
    tests = [
        one_test(judge_it(seen, min_tps=20, max_ttft_ms=800), test="t.py::test_red"),
        one_test(judge_it(seen), test="t.py::test_unjudged[a-b]"),
        one_test(outcome="skipped", reason="needs a GPU"),
    ]
    assert table_text(tests, 80, color=False).splitlines() == [
        "                        decode  prefill     first  load  RAM",
        " test / engine / model   tok/s    tok/s  token ms     s  GiB  verdict",
        " ────────────────────────────────────────────────────────────────────────",
        " test_red                 19.1      250       512  2.50    –  OVER_BUDGET",
        " fake llama-160m          ≥ 20              ≤ 800",
        " test_unjudged[a-b]       19.1      250       512  2.50    –  NO_BASELINE",
        " fake llama-160m",
    ]


def test_what_was_not_measured_is_a_dash_and_never_zero() -> None:
    text = table_text([one_test(judge_it(measurement(load=2)))], 80, color=False)
    row = next(line for line in text.splitlines() if "test_chat" in line)
    assert row.split() == ["test_chat", "–", "–", "–", "2.00", "–", "NO_BASELINE"]


def test_other_budgets_stand_under_the_test() -> None:
    judged = judge_it(measurement(decode_tps=30, tpot=33.3), max_tpot_ms=40, max_vram_gb=6)
    text = table_text([one_test(judged)], 120, color=False)
    assert "per token 33.3 ≤ 40 ms" in text
    assert "VRAM – ≤ 6 GiB" in text


def test_several_measurements_of_a_test_have_a_row_each() -> None:
    short, long = (
        judge_it(msgspec.structs.replace(measurement(load=2), name=name))
        for name in ("short", "long")
    )
    text = table_text([one_test(short, long)], 80, color=False)
    assert text.index("test_chat · short") < text.index("test_chat · long")


def test_color_changes_nothing_but_color() -> None:
    tests = [full("chat[red]")]
    colored = table_text(tests, 80, color=True)
    assert "\x1b[1;31mOVER_BUDGET" in colored
    bare = re.sub(r"\x1b\[[\d;]*m", "", colored)
    plain = table_text(tests, 80, color=False)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()


def test_after_a_second_look_the_number_is_the_one_that_was_judged() -> None:
    judged = judge_it(measurement(decode_tps=184))
    mean = msgspec.structs.replace(DECODE, value=193.5)
    for pair, shown in (
        (mean, ["194", "−1.3 %"]),
        (msgspec.structs.replace(mean, value=184.0, looks=[look(184)]), ["184", "−6.1 %"]),
    ):
        both = msgspec.structs.replace(judged, pairs=[pair])
        text = table_text([one_test(both)], 80, color=False)
        assert all(each in text for each in shown), text


def test_the_change_of_a_time_and_the_loss_that_would_be_found_are_of_times() -> None:
    judged = msgspec.structs.replace(judge_it(measurement(ttft=120)), pairs=[longer()])
    lines = table_text([one_test(judged)], 100, color=False).splitlines()
    assert "+20 %" in lines[-2]
    assert "mde 8%" in lines[-1]
