"""How is a budget read, and which row does it pick?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.fit.footprint import Interval
from pytest_llmperf.fit.plan import Planned
from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.speed import Speed
from pytest_llmperf.fit.wanted import BadBudget, pick, read_budget
from tests.unit.fit.models import GIB

ROW = Planned(
    quantization="Q4_K_M",
    context_tokens=4096,
    sequences=1,
    weights=Interval.exactly(4 * GIB),
    kv_cache=GIB,
    ram=Interval(GIB // 2, GIB),
    vram=Interval(5 * GIB, 6 * GIB),
    total=Interval(6 * GIB, 7 * GIB),
    where="GPU",
    gpu_layers=33,
    fit=Fit.YES,
    reasons=(),
    speed=Speed(decode_tps=25.0, prefill_tps=300.0),
    notes=(),
)
LARGER = msgspec.structs.replace(
    ROW, quantization="Q8_0", weights=Interval.exactly(8 * GIB), speed=Speed(decode_tps=14.0)
)
LONGER = msgspec.structs.replace(ROW, context_tokens=8192)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not of the form tps>=20, vram<=6"),
        ("tps", "'tps' is not of the form"),
        ("tps>20", "is not of the form"),
        ("tps>=-1", "is not of the form"),
        ("tps>=nan", "is not of the form"),
        ("vrm<=6", r"'vrm' is not planned\. Did you mean vram\?"),
        ("tps<=20", "of tps only >= can be asked"),
        ("vram>=6", "of vram only <= can be asked"),
    ],
)
def test_a_budget_that_means_nothing_is_refused_with_the_cure(text: str, words: str) -> None:
    with pytest.raises(BadBudget, match=words):
        read_budget(text)


def test_terms_are_read() -> None:
    first, second = read_budget(" decode_tps >= 20 ,vram<=6.5")
    assert (first.text, second.text) == ("tps >= 20 tok/s", "vram <= 6.5 GiB")


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("tps>=25", True),
        ("tps>=25.1", False),
        ("vram<=6", True),
        ("vram<=5.9", False),
        ("ram<=1", True),
        ("context>=4097", False),
        ("prefill_tps>=300", True),
        ("tps>=20,vram<=5", False),
    ],
)
def test_memory_counts_by_its_high_end(text: str, met: bool) -> None:
    assert (pick([ROW], read_budget(text)) is ROW) is met


def test_the_most_weights_win_and_then_the_longest_context() -> None:
    rows = [ROW, LONGER, LARGER]
    assert pick(rows, read_budget("tps>=10")) is LARGER
    assert pick(rows, read_budget("tps>=20")) is LONGER
    assert pick(rows, read_budget("tps>=30")) is None


@pytest.mark.parametrize("fit", [Fit.TIGHT, Fit.NO])
def test_what_does_not_surely_fit_is_not_picked(fit: Fit) -> None:
    assert pick([msgspec.structs.replace(ROW, fit=fit)], read_budget("context>=1")) is None


def test_a_ceiling_promises_no_speed() -> None:
    ceiling = msgspec.structs.replace(ROW, speed=Speed(decode_tps=99.0, is_ceiling=True))
    assert pick([ceiling], read_budget("tps>=20")) is None
    assert pick([ceiling], read_budget("vram<=6")) is ceiling
