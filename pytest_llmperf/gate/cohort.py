"""What do the pairs of one machine teach about each of them?"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_llmperf.gate.baseline import Baseline
from pytest_llmperf.gate.pair import SPEEDS
from pytest_llmperf.gate.statistics import Cohort, cohort_of, session_variance


def cohorts(baselines: Iterable[Baseline], gated: int) -> dict[str, Cohort]:
    """By metric of speed: those of its own kind teach it, or all where they are too few.

    Prefill waits for arithmetic and decode for memory, so that their noise differs several times.
    ``gated``: how many pairs share one rate of false alarms.
    """
    variances: dict[str, list[float | None]] = {metric: [] for metric in SPEEDS}
    for each in baselines:
        if each.key.metric in variances:
            variances[each.key.metric].append(session_variance(each.history))
    of_all = cohort_of((each for own in variances.values() for each in own), gated)
    found = {metric: cohort_of(own, gated) for metric, own in variances.items()}
    return {metric: of_all if own.noise is None else own for metric, own in found.items()}
