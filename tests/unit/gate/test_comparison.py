"""Does a comparison stop when it is sure, go on while it is not, and never claim too much?"""

from __future__ import annotations

import math
import random
import statistics

import pytest
from scipy import stats

from pytest_llmperf.gate.comparison import (
    MOST_PAIRS,
    RatioLimit,
    decide,
    order,
    ratio_of,
    wants_more,
)
from pytest_llmperf.gate.verdict import Verdict

FASTER = RatioLimit("min_speedup=1.2", 1.2)
NOT_SLOWER = RatioLimit("max_slowdown=5%", 0.95)


def pairs(ratio: float, noise: float, count: int, seed: int = 0) -> list[float]:
    generator = random.Random(seed)
    return [math.log(ratio) + generator.gauss(0, noise) for _ in range(count)]


def test_the_arms_take_turns() -> None:
    assert [order(pair) for pair in range(3)] == [("a", "b"), ("b", "a"), ("a", "b")]


def test_the_interval_is_students() -> None:
    found = ratio_of([0.10, 0.12, 0.14])
    half = stats.t.ppf(0.975, 2) * 0.02 / math.sqrt(3)
    assert found.ratio == pytest.approx(math.exp(0.12))
    assert (found.low, found.high) == pytest.approx((math.exp(0.12 - half), math.exp(0.12 + half)))
    assert found.pairs == 3


def test_one_pair_has_an_interval_without_an_end() -> None:
    found = ratio_of([0.1])
    assert (found.low, found.high) == (0.0, math.inf)


@pytest.mark.parametrize("ratio", [0.6, 2.0])
def test_what_is_plain_takes_three_pairs(ratio: float) -> None:
    differences = pairs(ratio, 0.01, 3)
    assert wants_more(differences[:2], [FASTER])
    assert not wants_more(differences, [FASTER])
    expected = Verdict.PASSED if ratio > 1.2 else Verdict.OVER_BUDGET
    assert decide(differences, FASTER) is expected


def test_what_is_near_the_limit_takes_all_and_stays_undecided() -> None:
    differences = pairs(1.2, 0.01, MOST_PAIRS)
    assert all(wants_more(differences[:taken], [FASTER]) for taken in range(MOST_PAIRS))
    assert not wants_more(differences, [FASTER])
    assert decide(differences, FASTER) is Verdict.INCONCLUSIVE


def test_it_goes_on_until_every_limit_is_decided() -> None:
    differences = pairs(1.2, 0.005, 6)
    assert decide(differences, NOT_SLOWER) is Verdict.PASSED
    assert not wants_more(differences, [NOT_SLOWER])
    assert wants_more(differences, [NOT_SLOWER, FASTER])


def test_without_a_limit_five_pairs_are_taken() -> None:
    assert wants_more([0.0] * 4, [])
    assert not wants_more([0.0] * 5, [])


def test_three_pairs_that_agree_by_accident_prove_nothing() -> None:
    assert decide([math.log(1.1)] * 3, FASTER) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.05])
def test_a_limit_that_is_met_is_hardly_ever_called_broken(noise: float) -> None:
    """2,000 comparisons whose truth lies on the limit: at most 0.2 % wrong on either side."""
    verdicts = []
    for seed in range(2000):
        differences = pairs(1.2, noise, MOST_PAIRS, seed)
        taken = next(n for n in range(1, 11) if not wants_more(differences[:n], [FASTER]))
        verdicts.append(decide(differences[:taken], FASTER))
    wrong = [verdicts.count(each) / 2000 for each in (Verdict.PASSED, Verdict.OVER_BUDGET)]
    assert max(wrong) <= 0.004


def test_a_plain_difference_is_found_with_few_pairs() -> None:
    """A true 1.3 against 1.2 where pairs differ by 1.5 %: never wrong, mostly before the end."""
    taken = []
    for seed in range(300):
        differences = pairs(1.3, 0.015, MOST_PAIRS, seed)
        needed = next(n for n in range(1, 11) if not wants_more(differences[:n], [FASTER]))
        assert decide(differences[:needed], FASTER) in {Verdict.PASSED, Verdict.INCONCLUSIVE}
        taken.append(needed)
    assert statistics.median(taken) < MOST_PAIRS
