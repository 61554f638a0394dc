"""Can this runner hold a gate? What sessions of one build, compared with themselves, tell of it."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from pytest_llmperf.gate.baseline import PairKey
from pytest_llmperf.gate.pair import SPEEDS, PairResult, mean
from pytest_llmperf.gate.past import CENTRE_SESSIONS, adjusted
from pytest_llmperf.gate.slope import at_usual_cores
from pytest_llmperf.gate.statistics import Cohort, estimate
from pytest_llmperf.gate.summary import SessionSummary
from pytest_llmperf.gate.verdict import LEAST_SAMPLES, LEAST_SESSIONS, Cause, Verdict, judge

GATE = 0.05
RULE = (
    f"The rule: the MDE of every metric is at most {GATE * 100:.0f} % once its history holds "
    f"{CENTRE_SESSIONS} sessions that differ as these did, and no session turned red. "
    "MDE: the smallest loss that is found in four of five cases, at the default tolerance."
)
_TAIL = 0.025
"""Beyond either end of an interval of 95 %."""
_TOLD = 3
"""So many disturbances are named in the answer."""
_ALWAYS = {
    "other_share": (0.05, "other processes use {} of the cores all the time"),
    "stolen_share": (0.02, "the host takes away {} of the cores all the time"),
    "throttled": (0.01, "the CPU is throttled {} of the time"),
    "thermal": (0.01, "heat or a hardware limit slows it {} of the time"),
}
"""Guards report what is unlike the usual: what always disturbs is known by its size only."""


class PlaceboSession(msgspec.Struct, frozen=True, kw_only=True):
    """One session: its pairs as a run would have judged them."""

    pairs: list[PairResult]
    invalid: list[str] = []
    """Why a measurement of it means nothing, one text each; red as well."""

    @property
    def is_red(self) -> bool:
        """Whether a run would have failed, though nothing had changed."""
        return bool(self.invalid) or any(each.verdict.fails(strict=False) for each in self.pairs)

    @property
    def is_judged(self) -> bool:
        """Whether it was compared with anything."""
        compared = (each.verdict is not Verdict.NO_BASELINE for each in self.pairs)
        return bool(self.invalid) or any(compared)


class PairFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one model. Spreads are standard deviations of logs: about shares."""

    model: str
    metric: str
    sessions: int
    value: float
    """Median over the sessions, in the metric's unit."""
    session_cv: float | None
    """Between sessions, outliers and all, the probe's part taken off; None: there is but one."""
    session_cv_low: float | None
    session_cv_high: float | None
    """Ends of its interval of 95 %."""
    sigma: float
    """σ̂: the same as the gate reckons with: outliers drawn in, and something presumed of each."""
    spread: float
    """Between the samples of one worker."""
    probe_cv: float | None
    """Between the repeats of a probe; None: not probed."""
    probe_session_cv: float | None
    """Between the probes of the sessions."""
    probe_weight: float
    """β: how much of the probe's change is taken off."""
    core_session_cv: float | None = None
    """Of the cores' speed between the sessions; None: not tried."""
    core_weight: float = 0.0
    """The same of the change of the cores' speed, taken off before."""
    mde: float | None
    """Smallest loss that the next session would show with a probability of 80 %."""
    mde_full: float | None
    """The same once there are 20 sessions that differ as these did."""
    second_looks: int
    """Sessions in which fresh workers were asked."""
    verdicts: dict[str, int]


class Disturbance(msgspec.Struct, frozen=True, kw_only=True):
    """What a guard found, and in how many sessions."""

    words: str
    sessions: int


class Placebo(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that sessions of an unchanged build say of the runner."""

    planned: int
    sessions: int
    """How many were measured."""
    judged: int
    """How many of them had something to be compared with."""
    red: int
    """False alarms: sessions that turned red."""
    red_rate: float | None
    """None: none was judged."""
    red_low: float
    red_high: float
    """Ends of its interval of 95 % (Wilson)."""
    pairs: list[PairFigures]
    invalid: list[str]
    disturbances: list[Disturbance]
    """The most frequent first."""
    always: list[str]
    """What disturbed most of the sessions, in words."""
    holds: bool | None
    """Whether the runner can hold a gate of 5 %; None: interrupted, and not decided."""
    answer: str
    rule: str = RULE


def placebo(sessions: Sequence[PlaceboSession], planned: int) -> Placebo:
    """Sum up the ``sessions`` measured, oldest first, of those that were ``planned``."""
    by_key: dict[PairKey, list[PairResult]] = {}
    for session in sessions:
        for pair in session.pairs:
            if pair.key.metric in SPEEDS:  # sizes are counted, and have no noise to speak of
                by_key.setdefault(pair.key, []).append(pair)
    cohort = Cohort(pairs=max(1, len(by_key)))
    judged = sum(session.is_judged for session in sessions)
    red = sum(session.is_red for session in sessions)
    low, high = wilson(red, judged)
    told = Placebo(
        planned=planned,
        sessions=len(sessions),
        judged=judged,
        red=red,
        red_rate=red / judged if judged else None,
        red_low=low,
        red_high=high,
        pairs=[_figures(results, cohort) for results in by_key.values()],
        invalid=[reason for session in sessions for reason in session.invalid],
        disturbances=_disturbances(sessions),
        always=_always(sessions),
        holds=None,
        answer="",
    )
    holds = _holds(told)
    return msgspec.structs.replace(told, holds=holds, answer=_answer(told, holds))


def wilson(count: int, of: int) -> tuple[float, float]:
    """The interval of 95 % of a rate that was seen ``count`` times ``of`` so many (Wilson 1927).

    It says something for a count of 0 too, which is what is hoped for.
    """
    if of == 0:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf(1 - _TAIL)
    share, weight = count / of, z * z / of
    middle = share + weight / 2
    half = z * math.sqrt(share * (1 - share) / of + weight / (4 * of))
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    return (0.0 if count == 0 else low), (1.0 if count == of else high)


def rounded_up(share: float) -> str:
    """``5.1 %``: what lies just beyond a limit must not read like the limit."""
    return f"{math.ceil(round(share * 1000, 6)) / 10:.1f} %"


def _figures(results: Sequence[PairResult], cohort: Cohort) -> PairFigures:
    whole = [mean(each.looks) for each in results]
    history = [SessionSummary(**msgspec.structs.asdict(each)) for each in whole]
    latest = judge(history, history[-1], cohort=cohort)
    usual = at_usual_cores(history, ())
    calm = usual.history
    noise = estimate(calm, use_probe=latest.probe_weight > 0)
    values = [adjusted(each, noise.probe_weight) for each in calm]
    own = statistics.stdev(values) if len(values) > 1 else None
    low, high = (None, None) if own is None else _interval(own, len(values) - 1)
    cvs = [each.probe_cv for each in history if each.probe_cv is not None]
    probes = [each.log_probe for each in history if each.log_probe is not None]
    cores = [each.log_core for each in history if each.log_core is not None]
    return PairFigures(
        model=results[0].key.test,
        metric=results[0].key.metric,
        sessions=len(history),
        value=statistics.median(each.value for each in results),
        session_cv=own,
        session_cv_low=low,
        session_cv_high=high,
        sigma=noise.sigma,
        spread=statistics.median(each.spread for each in history),
        probe_cv=statistics.median(cvs) if cvs else None,
        probe_session_cv=statistics.stdev(probes) if len(probes) > 1 else None,
        probe_weight=noise.probe_weight,
        core_session_cv=statistics.stdev(cores) if len(cores) > 1 else None,
        core_weight=usual.weight,
        mde=latest.mde,
        mde_full=_mde_full(own, len(history), cohort),
        second_looks=sum(len(each.looks) > 1 for each in results),
        verdicts=dict(Counter(str(each.verdict) for each in results)),
    )


def _interval(sigma: float, freedom: float) -> tuple[float, float]:
    """Ends of the interval of 95 % of a standard deviation, by the χ² distribution."""
    from scipy.special import chdtri  # takes a while, as in statistics.t_quantile

    most, least = (float(chdtri(freedom, share)) for share in (_TAIL, 1 - _TAIL))
    return sigma * math.sqrt(freedom / most), sigma * math.sqrt(freedom / least)


def _mde_full(own: float | None, sessions: int, cohort: Cohort) -> float | None:
    """What the judge would say with a whole history: a young one is slow to believe anything.

    Nothing is winsorized: where sessions fall into two groups the larger one would pass for all.
    """
    if own is None or sessions < LEAST_SESSIONS:
        return None
    # In turns above and below, these have exactly the standard deviation that was found.
    size = own * math.sqrt(1 - 1 / CENTRE_SESSIONS)
    past = [
        SessionSummary(log_value=size * (-1) ** each, spread=0.0, n=LEAST_SAMPLES)
        for each in range(CENTRE_SESSIONS)
    ]
    return judge(past, past[0], cohort=cohort).mde


def _disturbances(sessions: Sequence[PlaceboSession]) -> list[Disturbance]:
    counts: Counter[str] = Counter()
    for session in sessions:
        counts.update({_kind(finding) for finding in _findings(session.pairs)})
    return [Disturbance(words=words, sessions=count) for words, count in counts.most_common()]


def _findings(pairs: Iterable[PairResult]) -> set[str]:
    """Of all invocations of a session, and what the judge found of the machine."""
    found: set[str] = set()
    for pair in pairs:
        found.update(finding for look in pair.looks for finding in look.guard)
        if pair.judgement.cause is Cause.MACHINE_CHANGED:
            found.update(pair.judgement.reasons)
    return found


def _kind(finding: str) -> str:
    """A finding without its numbers, which differ each time."""
    words, colon, _ = finding.partition(":")
    return words if colon else f"{words.partition(' is ')[0]} was not the usual one"


def _always(sessions: Sequence[PlaceboSession]) -> list[str]:
    found = []
    for name, (least, words) in _ALWAYS.items():
        seen = [
            pair.conditions[name]
            for session in sessions
            for pair in session.pairs
            if name in pair.conditions
        ]
        if seen and statistics.median(seen) > least:
            found.append(words.format(f"{statistics.median(seen):.0%}"))
    return found


def _worst_mde(pairs: Sequence[PairFigures]) -> float | None:
    """None: not known of one of them."""
    known = [pair.mde_full for pair in pairs if pair.mde_full is not None]
    return max(known) if known and len(known) == len(pairs) else None


def _holds(told: Placebo) -> bool | None:
    if told.sessions < told.planned:
        return None
    worst = _worst_mde(told.pairs)
    return not told.red and worst is not None and worst <= GATE


def _answer(told: Placebo, holds: bool | None) -> str:
    gate = f"hold a {GATE * 100:.0f} % gate"
    if holds is None:
        return (
            f"Ended after {told.sessions} of {told.planned} sessions: whether this runner can "
            f"{gate} was not decided."
        )
    worst = _worst_mde(told.pairs)
    found = "is not known" if worst is None else f"is {rounded_up(worst)}"
    if holds:
        return f"This runner can {gate}: the smallest loss it would find {found}."
    red = f"{told.red} of {told.judged} unchanged sessions turned red; " if told.red else ""
    return (
        f"This runner cannot {gate}: {red}the smallest loss it would find {found}; "
        f"what disturbs it: {_disturbed_by(told)}."
    )


def _disturbed_by(told: Placebo) -> str:
    named = [
        f"{each.words} ({each.sessions} of {told.sessions} sessions)"
        for each in told.disturbances[:_TOLD]
    ]
    return ", ".join([*told.always, *named]) or "nothing that can be seen from here"
