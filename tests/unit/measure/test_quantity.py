"""Do the few numbers tell what the many did?"""

from __future__ import annotations

import random

import numpy as np
import pytest

from pytest_llmperf.measure.quantity import percentile, summarize


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97])
@pytest.mark.parametrize("percent", [0, 25, 50, 75, 90, 95, 99, 100])
def test_percentiles_are_numpys(count: int, percent: float) -> None:
    source = random.Random(count)
    values = sorted(source.lognormvariate(3, 1) for _ in range(count))
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))


def test_order_of_the_values_does_not_matter_but_is_kept() -> None:
    quantity = summarize([30, 10, 20], "ms")
    assert (quantity.low, quantity.median, quantity.high, quantity.n) == (15, 20, 25, 3)
    assert quantity.values == [30, 10, 20]
    assert quantity.unit == "ms"


def test_the_median_is_no_mean() -> None:
    assert summarize([1, 2, 3, 1000], "ms").median == 2.5


def test_the_median_percentile_is_the_median() -> None:
    quantity = summarize([1, 2, 4, 8], "ms")
    assert list(quantity.percentiles) == ["p50", "p90", "p95", "p99"]
    assert quantity.percentiles["p50"] == quantity.median


def test_many_values_need_not_be_kept() -> None:
    assert summarize([1.0] * 9999, "ms", keep=False).values is None


def test_one_value_is_all_of_its_quantity() -> None:
    quantity = summarize([7], "s")
    assert {quantity.low, quantity.median, quantity.high, *quantity.percentiles.values()} == {7}


def test_nothing_cannot_be_summarized() -> None:
    with pytest.raises(ValueError, match="nothing to summarize"):
        summarize([], "ms")
