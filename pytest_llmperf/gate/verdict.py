"""Did it get worse? One pure decision over a pair's history, and its words.

A pair is one metric of one measurement of one test. The procedure: docs/gate.md.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Sequence

import msgspec

from pytest_llmperf.gate.past import RETURNED_SHARE, counted
from pytest_llmperf.gate.probe import MachineSpeed
from pytest_llmperf.gate.slope import UsualCores, at_usual_cores, is_blurred, within_history
from pytest_llmperf.gate.statistics import (
    Cohort,
    Noise,
    adjusted_mean,
    estimate,
    is_computable,
    t_quantile,
)
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary

TOLERANCE = 0.03
LEAST_SESSIONS = 3
LEAST_SAMPLES = 5
SECOND_LOOKS_CPU, SECOND_LOOKS_GPU = 5, 3
"""Fresh workers that a suspect gets; CPUs are noisier."""

_SCREEN_SHARE = 0.8
_SCREEN_CONFIDENCE = 0.95
"""At 0.90 a noisy runner measures 18 % of its unchanged tests again (benchmarks/gate_power)."""
_FALSE_RED = 0.1
"""Shared among the pairs of a session, so that its chance of a false red hardly grows with them."""
_LEAST_ALPHA, _MOST_ALPHA = 0.0005, 0.005
_POWER = 0.80
_INTERVAL = 0.975
_WELL_SHARE = 1 / 3
"""A fresh process that lost no larger a share of what they lost in the mean contradicts it."""
_YOUNG = ((5, 0.10), (10, 0.05))
"""Below so many sessions, nothing smaller is told from noise."""
_LEAST_CLEAR_LOOKS = 2


class Verdict(enum.StrEnum):
    """How a measurement was judged, the worst last."""

    PASSED = "PASSED"
    IMPROVED = "IMPROVED"
    NO_BASELINE = "NO_BASELINE"
    INCONCLUSIVE = "INCONCLUSIVE"
    REGRESSED = "REGRESSED"
    OVER_BUDGET = "OVER_BUDGET"
    INVALID = "INVALID"

    def fails(self, *, strict: bool) -> bool:
        """Whether a test with this verdict is red."""
        if strict and self in {Verdict.INCONCLUSIVE, Verdict.NO_BASELINE}:
            return True
        return self in {Verdict.REGRESSED, Verdict.OVER_BUDGET, Verdict.INVALID}


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that a test with several has. Raises ValueError for none."""
    return max(verdicts, key=list(Verdict).index)


class Cause(enum.StrEnum):
    """Why a verdict is neither plainly good nor plainly bad."""

    UNCOMPUTABLE = "uncomputable"
    YOUNG = "young"
    MACHINE_CHANGED = "machine changed"
    SUSPECT = "suspect"
    DISTURBED = "disturbed"
    UNSURE = "unsure"
    RETURNING = "returning"
    CONTRADICTED = "contradicted"
    UNDERPOWERED = "underpowered"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one pair. Changes are shares: −0.05 is 5 % slower, or larger."""

    verdict: Verdict
    wants_second_look: bool = False
    """Suspect: fresh workers have to be asked before the verdict counts."""
    effect: float | None = None
    """Change against the baseline; None: nothing to compare with."""
    low: float | None = None
    high: float | None = None
    """Ends of its interval of 95 %."""
    mde: float | None = None
    """Smallest loss that would have been found with a probability of 80 %."""
    probe_weight: float = 0.0
    """β: how much of the bandwidth probe's change was taken off."""
    core_weight: float = 0.0
    """How much of the change of the cores' speed was taken off before that."""
    sessions: int = 0
    """How many were compared with."""
    cause: Cause | None = None
    """None: nothing stands in the way of the verdict."""
    reasons: tuple[str, ...] = ()
    """The cause in words."""


def judge(
    history: Sequence[SessionSummary],
    first: InvocationSummary,
    second_look: Sequence[InvocationSummary] = (),
    *,
    tolerance: float = TOLERANCE,
    cohort: Cohort | None = None,
) -> Judgement:
    """Judge one pair: its ``first`` invocation and, once it was suspect, those of a second look.

    ``history``: the sessions kept, oldest first. ``cohort``: what the other pairs of the
    fingerprint teach; None: this is the only one. Raises nothing: what cannot be computed is
    INCONCLUSIVE and says why.
    """
    sessions = counted(history)
    wrong = _uncomputable(history, first, second_look, tolerance, cohort)
    if wrong:
        return Judgement(
            verdict=Verdict.INCONCLUSIVE,
            sessions=sessions,
            cause=Cause.UNCOMPUTABLE,
            reasons=(wrong,),
        )
    machine = MachineSpeed(history)
    first, *fresh = map(machine.marked, (first, *second_look))
    clear = [each for each in fresh if is_clear(each)]
    is_calm = not any(each.unusual for each in (first, *clear))
    cores = at_usual_cores(history, within_history(history, (first, *clear)))
    if sessions < LEAST_SESSIONS:
        young = f"{sessions} of {LEAST_SESSIONS} sessions of history"
        return Judgement(
            verdict=Verdict.INCONCLUSIVE if first.guard else Verdict.NO_BASELINE,
            sessions=sessions,
            cause=Cause.MACHINE_CHANGED if first.guard else Cause.YOUNG,
            reasons=first.guard or (young,),
        )
    probed = all(look.log_probe is not None for look in cores.looks)
    use_probe = probed and not is_blurred(cores.looks)
    noise = estimate(cores.history, cohort, use_probe=use_probe, is_calm=is_calm)
    told = _Told(noise, cores, tolerated(tolerance, sessions), cohort)
    if first.guard:
        return told.judgement(Verdict.INCONCLUSIVE, Cause.MACHINE_CHANGED, *first.guard)
    if not fresh:
        return told.screened()
    if len(clear) < _LEAST_CLEAR_LOOKS:
        reason = f"{len(clear)} of {len(fresh)} fresh workers measured undisturbed"
        guards = dict.fromkeys(finding for each in fresh for finding in each.guard)
        return told.judgement(Verdict.INCONCLUSIVE, Cause.DISTURBED, reason, *guards)
    return told.decided()


def is_clear(look: InvocationSummary) -> bool:
    """Whether an invocation of a second look can be heard."""
    return not look.guard and look.n >= LEAST_SAMPLES


class _Told:
    """One pair's distance from its centre, and what is said of it."""

    def __init__(
        self,
        noise: Noise,
        cores: UsualCores,
        tolerance: float,
        cohort: Cohort | None,
    ) -> None:
        self._noise, self._cores, self._tolerance = noise, cores, tolerance
        looks, weight = cores.looks, noise.probe_weight
        self._probe = statistics.median(look.log_probe or 0.0 for look in looks)
        self._distance = adjusted_mean(looks, weight) - noise.centre
        self._known = _known_error(noise, cores)
        self._error, self._freedom = _with_excess(self._known, noise, looks[1:])
        alpha = _FALSE_RED / max(1, cohort.pairs if cohort is not None else 1)
        self._alpha = min(max(alpha, _LEAST_ALPHA), _MOST_ALPHA)
        self._certain = t_quantile(1 - self._alpha, self._freedom) * self._error
        self._usual_loss, self._usual_gain = (each / RETURNED_SHARE for each in noise.returned)
        self._border = math.log1p(-tolerance)

    def screened(self) -> Judgement:
        """After one invocation: good, or suspect."""
        likely = t_quantile(_SCREEN_CONFIDENCE, self._freedom) * self._error
        if self._distance < _SCREEN_SHARE * self._border and self._distance + likely < 0:
            reason = "suspect, and not looked at a second time"
            suspect = self.judgement(Verdict.INCONCLUSIVE, Cause.SUSPECT, reason)
            return msgspec.structs.replace(suspect, wants_second_look=True)
        return self._improved_or_passed()

    def decided(self) -> Judgement:
        """After the second look."""
        fresh = self._cores.looks[1:]
        if self._distance >= self._border:
            return self._improved_or_passed()
        worse = f"{-math.expm1(self._distance):.1%} worse"
        well = sum(map(self._is_well, fresh))
        if well:
            reason = (
                f"{worse} in the mean, but {well} of {len(fresh)} fresh processes lost less than "
                "a third of that: something passed by"
            )
            return self.judgement(Verdict.INCONCLUSIVE, Cause.CONTRADICTED, reason)
        if self._distance + self._certain >= 0:
            apart = "the processes of this session" if self._is_apart else "sessions of this test"
            sure = f"{-math.expm1(-self._certain):.1%} would be"
            reason = f"{worse}, and {apart} differ too much to be sure: {sure}"
            return self.judgement(Verdict.INCONCLUSIVE, Cause.UNSURE, reason)
        if self._distance + self._usual_loss >= 0:
            reason = (
                f"{worse}, and losses of {-math.expm1(-self._noise.returned[0]):.1%} and more "
                "came and went by themselves in earlier sessions"
            )
            return self.judgement(Verdict.INCONCLUSIVE, Cause.RETURNING, reason)
        return self.judgement(Verdict.REGRESSED)

    def _is_well(self, look: InvocationSummary) -> bool:
        """Whether this process alone shows little of it: what a build has lost, all have."""
        distance = look.log_value - self._noise.probe_weight * self._probe - self._noise.centre
        return distance > _WELL_SHARE * self._distance

    @property
    def _is_apart(self) -> bool:
        """Whether it is the processes of this session alone that stand in the way."""
        certain = t_quantile(1 - self._alpha, self._noise.freedom) * self._known
        return self._distance + certain < 0

    def _improved_or_passed(self) -> Judgement:
        if self._distance > max(-self._border, self._certain, self._usual_gain):
            return self.judgement(Verdict.IMPROVED)
        passed = self.judgement(Verdict.PASSED)
        if passed.mde is not None and passed.mde > 2 * self._tolerance:
            reason = f"underpowered: a loss of less than {passed.mde:.0%} may go unseen"
            return msgspec.structs.replace(passed, cause=Cause.UNDERPOWERED, reasons=(reason,))
        return passed

    def judgement(self, verdict: Verdict, cause: Cause | None = None, *reasons: str) -> Judgement:
        """A verdict with its numbers."""
        noise = self._noise
        half = t_quantile(_INTERVAL, self._freedom) * self._error
        needed = max(-self._border, self._certain, self._usual_loss)
        found = needed + t_quantile(_POWER, self._freedom) * self._error
        return Judgement(
            verdict=verdict,
            effect=math.expm1(self._distance),
            low=math.expm1(self._distance - half),
            high=math.expm1(self._distance + half),
            mde=-math.expm1(-found),
            probe_weight=noise.probe_weight,
            core_weight=self._cores.weight,
            sessions=noise.sessions,
            cause=cause,
            reasons=reasons,
        )


def _known_error(noise: Noise, cores: UsualCores) -> float:
    """Standard error of the distance by what the history knows.

    What was taken off for the machine is as unsure as the slope that it was taken off with, the
    more the further the machine is from where it usually is.
    """
    probe = statistics.median(look.log_probe or 0.0 for look in cores.looks) - noise.probe
    leverage = cores.leverage + noise.probe_doubt * probe**2
    return math.sqrt(noise.error**2 + leverage * noise.sigma**2)


def _with_excess(
    known: float, noise: Noise, fresh: Sequence[InvocationSummary]
) -> tuple[float, float]:
    """The same with what the processes of this session add, and its degrees of freedom.

    Those that differ by more than sessions do are sure of nothing: what their variance exceeds
    that of the history by is added, as that of a mean (Satterthwaite 1946). The first of all was
    chosen for being low, and would exceed by that alone.
    """
    if len(fresh) < 2:
        return known, noise.freedom
    excess = statistics.variance([look.log_value for look in fresh]) - noise.sigma**2
    if excess <= 0:
        return known, noise.freedom
    before, added = known**2, excess / len(fresh)
    freedom = (before + added) ** 2 / (before**2 / noise.freedom + added**2 / (len(fresh) - 1))
    return math.sqrt(before + added), freedom


def tolerated(tolerance: float, sessions: int) -> float:
    """The share that a baseline of so many sessions tolerates of speeds; ``tolerance``: asked."""
    return max(tolerance, next((least for below, least in _YOUNG if sessions < below), 0.0))


def _uncomputable(
    history: Sequence[SessionSummary],
    first: InvocationSummary,
    second_look: Sequence[InvocationSummary],
    tolerance: float,
    cohort: Cohort | None,
) -> str | None:
    """Why nothing can be computed, if so."""
    if not 0 < tolerance < 1:
        return f"a tolerance lies between 0 and 1, not at {tolerance}"
    if cohort is not None and cohort.noise is not None and not 0 <= cohort.noise < 10:
        return f"the noise of the other pairs cannot be: {cohort.noise}"
    for each in (*history, first, *second_look):
        if not is_computable(each):
            told = f"value {each.log_value}, probe {each.log_probe}, core {each.log_core}"
            return f"no measurement comes to this: {told}"
    if first.n < LEAST_SAMPLES:
        return f"{first.n} samples, and {LEAST_SAMPLES} are needed"
    return None
