"""What does a pair's baseline come to: its centre, its noise, and the loss that it would show?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from datetime import datetime

import msgspec

from pytest_llmperf.gate.baseline import Baseline
from pytest_llmperf.gate.cohort import cohorts
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import SIZES, SPEEDS
from pytest_llmperf.gate.past import CENTRE_SESSIONS, counted, current
from pytest_llmperf.gate.slope import at_usual_cores
from pytest_llmperf.gate.statistics import Cohort, estimate, is_computable
from pytest_llmperf.gate.verdict import LEAST_SAMPLES, LEAST_SESSIONS, judge


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """One pair in a few numbers."""

    epoch: int | None
    """None: nothing was ever accepted."""
    sessions: int
    """Of the current epoch, as many as there are."""
    unit: str
    centre: float | None = None
    """What the next session is compared with, in ``unit``; None: nothing to compute it from."""
    noise: float | None = None
    """Standard deviation between sessions, as a share; None: a size, which has none to speak of."""
    mde: float | None = None
    """Smallest loss that would be found in four of five cases, as a share, at the default
    tolerance; None: too few sessions to judge by."""
    latest: datetime | None = None
    trouble: str | None = None
    """Why there are no numbers though there are sessions."""


def cohorts_for(baselines: Iterable[Baseline]) -> dict[str, Cohort]:
    """What all pairs of one fingerprint teach, when all that can be judged are run together."""
    speeds = [each for each in baselines if each.key.metric in SPEEDS]
    gated = sum(counted(each.history) >= LEAST_SESSIONS for each in speeds)
    return cohorts(speeds, max(1, gated))


def overview(baseline: Baseline, cohort: Cohort | None = None) -> Overview:
    """Sum up one pair, with the judge's own arithmetic. Raises nothing."""
    metric = BY_NAME.get(baseline.key.metric)
    epoch = baseline.epoch
    whole = Overview(
        epoch=None if epoch is None else epoch.epoch,
        sessions=sum(each.epoch == epoch.epoch for each in baseline.sessions) if epoch else 0,
        unit="" if metric is None else metric.unit,
        latest=baseline.sessions[-1].date if baseline.sessions else None,
    )
    if not baseline.sessions:
        return whole
    if metric is None:
        return msgspec.structs.replace(whole, trouble="this release does not know the metric")
    history = baseline.history
    if not all(is_computable(each) for each in history):
        return msgspec.structs.replace(whole, trouble="a session's value is no number")
    sign = 1.0 if metric.better == "higher" else -1.0
    first = current(history)[:CENTRE_SESSIONS]
    if metric.name in SIZES:
        middle = statistics.median(each.log_value for each in first)
        return msgspec.structs.replace(whole, centre=math.exp(sign * middle))
    # As if the latest session came once more, with as many samples as it takes.
    again = msgspec.structs.replace(history[-1], n=max(history[-1].n, LEAST_SAMPLES))
    judged = judge(history, again, cohort=cohort)
    calm = at_usual_cores(history, ()).history
    noise = estimate(calm, cohort, use_probe=judged.probe_weight > 0)
    probes = [each.log_probe for each in first if each.log_probe is not None]
    usual = noise.probe_weight * (statistics.median(probes) if probes else 0.0)
    return msgspec.structs.replace(
        whole,
        centre=math.exp(sign * (noise.centre + usual)),
        noise=noise.sigma,
        mde=judged.mde,
    )
