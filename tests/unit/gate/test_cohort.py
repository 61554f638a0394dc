"""Does each metric learn from its own kind, where there are enough of it?"""

from __future__ import annotations

import pytest

from pytest_llmperf.gate.baseline import Baseline, PairKey
from pytest_llmperf.gate.cohort import cohorts
from pytest_llmperf.gate.pair import SPEEDS
from pytest_llmperf.gate.statistics import cohort_of, session_variance
from tests.unit.gate.histories import swinging
from tests.unit.gate.test_baseline import session


def baselines(metric: str, count: int, size: float) -> list[Baseline]:
    past = [each.log_value for each in swinging(8, size)]
    return [
        Baseline(
            PairKey(f"test_{metric}_{number}", "1", metric, "engine"),
            sessions=tuple(session(log_value=value) for value in past),
        )
        for number in range(count)
    ]


def test_each_metric_learns_from_its_own_kind() -> None:
    quiet, wild = baselines("prefill_tps", 6, 0.01), baselines("decode_tps", 6, 0.1)
    learned = cohorts([*quiet, *wild], gated=12)
    assert set(learned) == set(SPEEDS)
    for metric, own in (("prefill_tps", quiet), ("decode_tps", wild)):
        assert learned[metric] == cohort_of([session_variance(each.history) for each in own], 12)
    assert learned["decode_tps"].noise == pytest.approx(10 * (learned["prefill_tps"].noise or 0.0))


def test_too_few_of_a_kind_learn_from_all() -> None:
    few, many = baselines("prefill_tps", 4, 0.01), baselines("decode_tps", 6, 0.1)
    learned = cohorts([*few, *many], gated=10)
    of_all = cohort_of([session_variance(each.history) for each in (*few, *many)], 10)
    assert learned["prefill_tps"] == of_all
    assert learned["decode_tps"] == cohort_of([session_variance(each.history) for each in many], 10)


def test_sizes_teach_no_speed() -> None:
    learned = cohorts(baselines("ram", 9, 0.01), gated=3)
    assert {each.noise for each in learned.values()} == {None}
    assert {each.pairs for each in learned.values()} == {3}
