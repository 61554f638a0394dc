"""What would the usual rules say of the same samples? The rivals of the gate, each as it is used.

A rule takes the logs of the samples of all earlier sessions and of this one, larger is better, and
tells of each pair whether it is red. None of them looks a second time, and none knows the probe:
those that compare runs know the last one only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gate_noise import Array
from numpy.typing import NDArray
from scipy import special, stats

Red = NDArray[np.bool_]
Rule = Callable[[Array, Array], Red]
"""Of the logs [session, pair, sample] before and [pair, sample] now."""

LOSS = 0.05
MANN_WHITNEY_P = 0.05
BENCHER_BOUNDARY = 0.99
"""The one of Bencher's documentation; it has no default."""
RESAMPLES = 300
CRITERION_CONFIDENCE = 0.95
CRITERION_NOISE = 0.01
"""criterion's default for what counts as no change."""


def last_run(before: Array, now: Array) -> Red:
    """The median is more than 5 % below the last run's."""
    change = np.median(now, axis=-1) - np.median(before[-1], axis=-1)
    return np.asarray(np.expm1(change) < -LOSS)


def compare_fail(before: Array, now: Array) -> Red:
    """``pytest --benchmark-compare --benchmark-compare-fail=mean:5%``.

    PercentageRegressionCheck: the mean time ÷ the last saved run's · 100 − 100 exceeds 5.
    """
    return np.asarray(_mean_time(now) / _mean_time(before[-1]) - 1 > LOSS)


def mann_whitney(before: Array, now: Array) -> Red:
    """Rank test of all samples of this run against all of the last, one-sided."""
    found = stats.mannwhitneyu(now, before[-1], alternative="less", axis=-1)
    return np.asarray(found.pvalue < MANN_WHITNEY_P)


def bencher(before: Array, now: Array) -> Red:
    """Bencher's ``t_test`` threshold: this value beside the mean and deviation of the earlier.

    As bencher_boundary computes it: the deviation divides by n, the t distribution has n − 1
    degrees of freedom, and the mean's own error is left out. The value is the median, which is
    kinder to it than the mean of its pytest adapter.
    """
    values = np.exp(np.median(before, axis=-1))
    margin = special.stdtrit(len(values) - 1, BENCHER_BOUNDARY) * values.std(axis=0)
    return np.asarray(np.exp(np.median(now, axis=-1)) < values.mean(axis=0) - margin)


def criterion(before: Array, now: Array, noise: float) -> Red:
    """Like criterion.rs: the whole bootstrap interval of the change lies beyond the noise.

    Means of times against the last run's, both resampled. Its p value below 0.05 follows from that.
    """
    # Fixed, so that the rule is a function of what it is given.
    generator = np.random.default_rng(0)
    n = now.shape[-1]
    weights = generator.multinomial(n, np.full(n, 1 / n), (2, RESAMPLES)) / n
    change = (np.exp(-now) @ weights[0].T) / (np.exp(-before[-1]) @ weights[1].T) - 1
    low = np.quantile(change, (1 - CRITERION_CONFIDENCE) / 2, axis=-1)
    return np.asarray(low > noise)


def _mean_time(logs: Array) -> Array:
    return np.asarray(np.exp(-logs).mean(axis=-1))


RIVALS: dict[str, Rule] = {
    "last run": last_run,
    "mean:5%": compare_fail,
    "U test": mann_whitney,
    "Bencher": bencher,
    "crit. 5%": lambda before, now: criterion(before, now, LOSS),
    "crit. 1%": lambda before, now: criterion(before, now, CRITERION_NOISE),
}
