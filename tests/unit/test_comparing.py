"""Are two arms judged by what is certain of their speed, memory and perplexity, and told so?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import msgspec
import pytest
from scipy import stats

from pytest_llmperf.comparing import compare, read_demands
from pytest_llmperf.gate.comparison import MOST_PAIRS, Arm
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.quality import Estimate, Quality
from pytest_llmperf.report.comparison import comparison_line, comparison_text
from pytest_llmperf.report.result import Comparison
from tests.unit.gate.test_contract import measurement

SPEEDS: dict[Arm, float] = {"a": 130.0, "b": 100.0}
EASY = (2.0, 2.1, 1.9, 2.0, 2.2, 1.8, 2.0, 2.1)
"""Mean surprises of B's windows."""


def read_by(surprises: Sequence[float], passage: str = "p") -> Quality:
    mean = sum(surprises) / len(surprises)
    return Quality(
        perplexity=Estimate(value=math.exp(mean), error=None),
        positions=255 * len(surprises),
        windows=len(surprises),
        passage=passage,
        surprises=list(surprises),
    )


def arms(
    memory: Iterable[float] = (1.0,),
    a: Quality | None = None,
    b: Quality | None = None,
) -> Callable[[Arm, int], Measurement]:
    """What every pair brings; ``memory``: of A, in turns, B taking 1 GiB."""
    sizes = itertools.cycle(memory)

    def seen(arm: Arm, pair: int) -> Measurement:
        ram = next(sizes) if arm == "a" else 1.0
        quality = {"a": a, "b": b}[arm] if pair == 0 else None
        found = measurement(decode_tps=SPEEDS[arm], ram=ram)
        return msgspec.structs.replace(found, quality=quality)

    return seen


def judged(measure: Callable[[Arm, int], Measurement], **demanded: float) -> Comparison:
    return compare(measure, "1", {"a": "A", "b": "B"}, "decode_tps", read_demands(**demanded))


def higher(by: float, *, spread: float = 0.0) -> Quality:
    """What A read: each window surprised it by so much more than B, and half of them by more."""
    return read_by(
        [each + by + spread * sign for each, sign in zip(EASY, itertools.cycle((1, -1)))]
    )


def test_perplexity_has_a_paired_interval_by_the_windows() -> None:
    """Texts differ far more than the arms do: taken for independent, nothing could be told."""
    found = judged(arms(a=higher(0.01, spread=0.002), b=read_by(EASY)))
    half = stats.t.ppf(0.975, 7) * 0.002 * math.sqrt(8 / 7) / math.sqrt(8)
    assert found.perplexity_ratio == pytest.approx(math.exp(0.01))
    assert found.perplexity_low == pytest.approx(math.exp(0.01 - half))
    assert found.perplexity_high == pytest.approx(math.exp(0.01 + half))
    assert "perplexity 1.01 ×, 1.008–1.012" in " ".join(comparison_line(found).split())


@pytest.mark.parametrize(
    ("most", "verdict"),
    [(0.02, Verdict.PASSED), (0.011, Verdict.INCONCLUSIVE), (0.005, Verdict.OVER_BUDGET)],
)
def test_a_limit_within_the_interval_is_undecided(most: float, verdict: Verdict) -> None:
    measure = arms(a=higher(0.01, spread=0.002), b=read_by(EASY))
    (check,) = judged(measure, max_perplexity_increase=most).checks
    assert check.verdict is verdict
    undecided = f"max_perplexity_increase={most}: not decided, 1.008–1.012 by 8 windows"
    assert check.reason == (undecided if verdict is Verdict.INCONCLUSIVE else "")


def test_the_same_words_are_kept_to_the_last() -> None:
    measure = arms(a=read_by(EASY), b=read_by(EASY))
    assert judged(measure, max_perplexity_increase=0.001).verdict is Verdict.PASSED


@pytest.mark.parametrize("most", [0.001, 0.9])
def test_a_single_window_decides_nothing(most: float) -> None:
    found = judged(arms(a=read_by([2.1]), b=read_by([2.0])), max_perplexity_increase=most)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "a single window" in found.checks[0].reason
    assert "perplexity 1.105 ×" in comparison_line(found)
    assert "inf" not in comparison_line(found)


def test_an_end_that_no_number_holds_is_beyond_the_limit() -> None:
    measure = arms(a=higher(600.0, spread=200.0), b=read_by(EASY))
    assert judged(measure, max_perplexity_increase=0.5).verdict is Verdict.OVER_BUDGET


def test_why_there_is_no_ratio_of_perplexity_is_told_without_a_limit() -> None:
    other = read_by(EASY[:4], passage="q")
    found = judged(arms(a=read_by(EASY), b=other))
    assert found.perplexity_unknown is not None
    assert found.perplexity_unknown.startswith("the arms read different tokens, 8 windows of 255")
    said = " ".join(comparison_line(found).split())
    assert f"no ratio of perplexity: {found.perplexity_unknown}" in said


def test_a_limit_tells_it_once() -> None:
    measure = arms(a=read_by(EASY), b=read_by(EASY[:4], passage="q"))
    found = judged(measure, max_perplexity_increase=0.5)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "no ratio" not in comparison_line(found)
    assert "different tokens" in " ".join(comparison_text([found], strict=True).split())


def test_arms_that_were_to_read_nothing_lack_nothing() -> None:
    found = judged(arms())
    assert (found.perplexity_ratio, found.perplexity_unknown) == (None, None)


@pytest.mark.parametrize(("most", "verdict"), [(0.5, Verdict.PASSED), (0.49, Verdict.OVER_BUDGET)])
def test_memory_that_is_always_the_same_is_certain(most: float, verdict: Verdict) -> None:
    found = judged(arms([0.5]), max_memory_ratio=most)
    assert found.verdict is verdict
    assert found.memory_ratio == found.memory_low == found.memory_high == 0.5


def test_memory_that_differs_has_an_interval() -> None:
    found = judged(arms([0.49, 0.5, 0.5, 0.5, 0.51]))
    assert found.memory_ratio == pytest.approx(0.5, abs=0.001)
    assert found.memory_low is not None
    assert found.memory_high is not None
    assert 0.48 < found.memory_low < 0.5 < found.memory_high < 0.52


def test_a_limit_on_memory_that_differs_is_undecided_after_all_pairs() -> None:
    found = judged(arms([0.4, 0.6]), max_memory_ratio=0.5)
    assert (found.verdict, found.pairs) == (Verdict.INCONCLUSIVE, MOST_PAIRS)
    (check,) = found.checks
    assert check.reason.startswith("max_memory_ratio=0.5: not decided, 0.4")
    assert check.reason.endswith(" by 10 pairs")


@pytest.mark.parametrize(("most", "verdict"), [(0.6, Verdict.PASSED), (0.4, Verdict.OVER_BUDGET)])
def test_more_pairs_decide_what_few_do_not(most: float, verdict: Verdict) -> None:
    found = judged(arms([0.47, 0.53]), max_memory_ratio=most, min_speedup=1.1)
    assert found.checks[-1].verdict is verdict
    assert 3 < found.pairs <= MOST_PAIRS


def test_memory_that_is_not_known_is_undecided_at_once() -> None:
    found = judged(arms([0.0]), max_memory_ratio=0.5, min_speedup=1.1)
    assert found.checks[-1].reason == "max_memory_ratio=0.5: the memory of an arm is not known"
    assert found.memory_ratio is None
    assert found.pairs < MOST_PAIRS
