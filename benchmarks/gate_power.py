"""Does the gate keep its promises? The real decision over simulated sessions, beside its rivals.

    python benchmarks/gate_power.py [--quick] [--json FILE]

Every session is a suite of 50 tests of two metrics with a history of its own. All decisions are
those of `judge`, with its second look of 5 fresh processes, and of `suite_shift`; the noise is that
of gate_noise.py, and the rivals judge the same samples. Seeds are fixed: the quick form is the
beginning of the whole one, too short to resolve the rarest alarms.

Intervals are Wilson's of 95 %. Pairs of one session share its day, so that they count for fewer
than they are wherever sessions differ by more than chance would have it.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from gate_noise import (
    BAD_DAY,
    HEAVY,
    METRICS,
    NOISY,
    SAMPLES,
    SECOND_LOOKS,
    SINGLE,
    TESTS,
    TYPICAL,
    VERY_NOISY,
    Noise,
    Sessions,
    draw,
)
from gate_rivals import RIVALS
from paired import Benchmark, Target, option_parser

from pytest_llmperf.gate import Cohort, InvocationSummary, Judgement, SessionSummary, Verdict, judge
from pytest_llmperf.gate.statistics import MOST_PROBE_CV, cohort_of
from pytest_llmperf.gate.suite import suite_shift

SEED = 2026
CHUNK = 10
"""Sessions that share a seed."""
QUICK_PART = 1 / 15
PROCESSES = 2
Z = statistics.NormalDist().inv_cdf(0.975)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions of one kind."""

    name: str
    noise: Noise
    history: int = 20
    """Sessions before the one that is judged."""
    machine: float = 0.0
    """What its machine has lost."""
    loss: float = 0.0
    """What the build has lost, in all tests alike."""
    at_mde: bool = False
    """Each pair loses what is stated as the smallest loss that would be found."""
    repeats: int = 600
    """In the whole form."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of one session."""

    red: int
    inconclusive: int
    """Pairs."""
    looked_again: int
    """Tests of which either metric wanted a second look."""
    suite: Verdict
    mde: float
    """The median of those stated."""
    rivals: dict[str, int]
    """Red pairs by each."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Percent of some trials, with its interval."""

    percent: float
    low: float
    high: float
    n: int

    @property
    def text(self) -> str:
        """``0.25 (0.11–0.58)``."""
        percent, low, high = (round(each, 2) for each in (self.percent, self.low, self.high))
        return f"{percent:.3g} ({low:.3g}–{high:.3g})"


Counts = tuple[int, int]
"""How many, of how many, in one session."""


def any_red(seen: Outcome) -> Counts:
    """Whether the session has a red pair."""
    return int(seen.red > 0), 1


def red(seen: Outcome) -> Counts:
    """Red pairs."""
    return seen.red, TESTS * METRICS


def again(seen: Outcome) -> Counts:
    """Tests measured a second time."""
    return seen.looked_again, TESTS


def suite(seen: Outcome) -> Counts:
    """Whether the suite shift is red."""
    return int(seen.suite is Verdict.REGRESSED), 1


def unsure(seen: Outcome) -> Counts:
    """Pairs that cannot be told: no false alarm, and no help either."""
    return seen.inconclusive, TESTS * METRICS


def suite_unsure(seen: Outcome) -> Counts:
    """Whether the suite shift cannot be told."""
    return int(seen.suite is Verdict.INCONCLUSIVE), 1


class Row(msgspec.Struct, frozen=True):
    """One promise."""

    what: str
    case: Case
    count: Callable[[Outcome], Counts]
    target: Target = Target()


typical = Case(name="typical", noise=TYPICAL, repeats=3000)
noisy = Case(name="noisy", noise=NOISY, repeats=2000)
single = Case(name="single tests", noise=SINGLE, repeats=6000)
bad_day = Case(name="bad day, typical", noise=TYPICAL, machine=BAD_DAY)
bad_noisy = Case(name="bad day, noisy", noise=NOISY, machine=BAD_DAY)
heavy = Case(name="heavy tails, drift", noise=HEAVY)
twice = Case(name="twice the noise", noise=TYPICAL.scaled(2))
very_noisy = Case(name="very noisy", noise=VERY_NOISY)
typical_10 = Case(name="typical, 10", noise=TYPICAL, history=10, repeats=2400)
noisy_10 = Case(name="noisy, 10", noise=NOISY, history=10, repeats=2400)
single_10 = Case(name="single tests, 10", noise=SINGLE, history=10, repeats=2400)
lost_3 = Case(name="3 % slower, typical", noise=TYPICAL, loss=0.03)
lost_5 = Case(name="5 % slower, typical", noise=TYPICAL, loss=0.05, repeats=400)
lost_10 = Case(name="10 % slower, typical", noise=TYPICAL, loss=0.10, repeats=400)
noisy_lost_10 = Case(name="10 % slower, noisy", noise=NOISY, loss=0.10, repeats=400)
very_noisy_lost_10 = Case(name="10 % slower, very noisy", noise=VERY_NOISY, loss=0.10, repeats=400)
mde = Case(name="at the MDE, typical", noise=TYPICAL, at_mde=True, repeats=400)
mde_noisy = Case(name="at the MDE, noisy", noise=NOISY, at_mde=True, repeats=400)
mde_single = Case(name="at the MDE, single tests", noise=SINGLE, at_mde=True, repeats=400)
UNCHANGED = (
    typical, noisy, single, bad_day, bad_noisy, heavy, twice, very_noisy, typical_10, noisy_10,
    single_10,
)  # fmt: skip
SLOWER = (lost_5, lost_10, noisy_lost_10)
CASES = (*UNCHANGED, lost_3, *SLOWER, very_noisy_lost_10, mde, mde_noisy, mde_single)

PROMISES = {
    "false alarm in a session": (
        Row("typical", typical, any_red, Target(most=1)),
        Row("noisy", noisy, any_red, Target(most=3)),
        Row("single tests' days of 1 %", single, any_red, Target(most=3)),
        Row("bad machine day, typical", bad_day, any_red, Target(most=10)),
        Row("bad machine day, noisy", bad_noisy, any_red, Target(most=10)),
        Row("heavy tails, drift", heavy, any_red),
        Row("twice the typical noise", twice, any_red),
        Row("very noisy", very_noisy, any_red),
        Row("10 sessions, typical", typical_10, any_red, Target(most=4)),
        Row("10 sessions, noisy", noisy_10, any_red, Target(most=4)),
        Row("10 sessions, single tests", single_10, any_red, Target(most=4)),
    ),
    "loss found in a pair": (
        Row("3 %, typical", lost_3, red),
        Row("5 %, typical", lost_5, red, Target(least=85)),
        Row("10 %, typical", lost_10, red, Target(least=95)),
        Row("10 %, noisy", noisy_lost_10, red, Target(least=55)),
        Row("10 %, very noisy", very_noisy_lost_10, red),
        Row("its MDE, {mde}, typical", mde, red),
        Row("its MDE, {mde}, noisy", mde_noisy, red),
        Row("its MDE, {mde}, single", mde_single, red),
    ),
    "test measured again": (
        Row("typical", typical, again, Target(most=12)),
        Row("noisy", noisy, again, Target(most=12)),
        Row("single tests' days of 1 %", single, again, Target(most=12)),
    ),
    "suite shift is red": (
        Row("3 % slower, typical", lost_3, suite, Target(least=90)),
        *(Row(case.name, case, suite) for case in UNCHANGED[:8]),
    ),
}


def simulate(case: Case, chunk: int) -> list[Outcome]:
    """Some sessions, each with a history of its own."""
    generator = np.random.default_rng([SEED, CASES.index(case), chunk])
    return [_session(case, generator) for _ in range(CHUNK)]


def _session(case: Case, generator: np.random.Generator) -> Outcome:
    before = draw(case.noise, case.history, 1, generator)
    start = before.walked + case.machine
    now = draw(case.noise, 1, 1 + SECOND_LOOKS, generator, machine=start)
    places = [(test, metric) for test in range(TESTS) for metric in range(METRICS)]
    histories = [before.history(*place) for place in places]
    cohort = cohort_of(histories, len(places))
    verdicts, mdes, firsts, again_tests = [], [], [], set()
    for place, history in zip(places, histories, strict=True):
        looks = now.summaries(0, *place, case.loss)
        if case.at_mde:
            stated = judge(history, looks[0], cohort=cohort).mde
            assert stated is not None
            looks = now.summaries(0, *place, stated)
        judged, looked_again = _judged(history, looks, cohort)
        verdicts.append(judged.verdict)
        mdes.append(judged.mde or math.nan)
        firsts.append(looks[0])
        if looked_again:
            again_tests.add(place[0])
    dated = [[(str(n), each) for n, each in enumerate(history)] for history in histories]
    return Outcome(
        red=verdicts.count(Verdict.REGRESSED),
        inconclusive=verdicts.count(Verdict.INCONCLUSIVE),
        looked_again=len(again_tests),
        suite=suite_shift(list(zip(dated, firsts, strict=True))).verdict,
        mde=statistics.median(mdes),
        rivals={} if case.at_mde else _rivals(before, now, case.loss),
    )


def _judged(
    history: Sequence[SessionSummary], looks: Sequence[InvocationSummary], cohort: Cohort
) -> tuple[Judgement, bool]:
    """What a run does: screen, and look again at what is suspect."""
    screened = judge(history, looks[0], cohort=cohort)
    if not screened.wants_second_look:
        return screened, False
    return judge(history, looks[0], looks[1:], cohort=cohort), True


def _rivals(before: Sessions, now: Sessions, loss: float) -> dict[str, int]:
    earlier = before.samples[:, 0].reshape(-1, TESTS * METRICS, SAMPLES)
    this = now.samples[0, 0].reshape(-1, SAMPLES) + math.log1p(-loss)
    return {name: int(rule(earlier, this).sum()) for name, rule in RIVALS.items()}


def share(counts: Sequence[Counts]) -> Share:
    """Of all sessions' counts, with the interval of Wilson (1927).

    Its n is the number of independent trials whose mean would vary as the sessions' shares do
    (Kish 1965), and no more than there were.
    """
    n = sum(of for _, of in counts)
    p = sum(found for found, _ in counts) / n
    worth = float(n)
    spread = statistics.variance(found / of for found, of in counts) / len(counts)
    if spread > 0 and n > len(counts):
        worth = min(worth, p * (1 - p) / spread)
    middle = (p + Z * Z / (2 * worth)) / (1 + Z * Z / worth)
    half = Z / (1 + Z * Z / worth) * math.sqrt(p * (1 - p) / worth + (Z / (2 * worth)) ** 2)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return Share(percent=100 * p, low=100 * low, high=100 * high, n=n)


def residual_cv(noise: Noise) -> float:
    """Between sessions, once the best share of the probe is off; of one invocation each."""
    seen = draw(noise, 2000, 1, np.random.default_rng(SEED), tests=10)
    values = seen.medians[:, 0] - seen.medians[:, 0].mean(axis=0)
    probes = (seen.probes[:, 0] - seen.probes[:, 0].mean(axis=0))[:, :, None]
    weight = 0.0
    if noise.probe_cv <= MOST_PROBE_CV:
        weight = float((values * probes).sum() / (METRICS * (probes**2).sum()))
    return float((values - weight * probes).std())


def show(benchmark: Benchmark, seen: dict[str, list[Outcome]]) -> None:
    """The table of promises."""
    for subject, rows in PROMISES.items():
        benchmark.head(f"{subject}:26", "n:7", "% (95 %):18", "target:7", ":13", "inconcl.%:9")
        for each in rows:
            outcomes = seen[each.case.name]
            found = share([each.count(one) for one in outcomes])
            quiet = share(
                [(suite_unsure if each.count is suite else unsure)(one) for one in outcomes]
            )
            stated = statistics.median(one.mde for one in outcomes)
            what = each.what.format(mde=f"{stated:.1%}")
            benchmark.row(
                what,
                f"{found.n}",
                found.text,
                str(each.target),
                _kept(benchmark, f"{subject}, {what}, %", found, each.target),
                f"{quiet.percent:.1f}",
                part="promises",
                subject=subject,
                what=what,
                case=each.case,
                found=found,
                target=each.target,
                inconclusive=quiet,
                stated_mde=stated,
            )


def _kept(benchmark: Benchmark, what: str, found: Share, target: Target) -> str:
    """Missed is what the whole interval misses."""
    if target == Target():
        return "–"
    ends = {target.is_met(found.low), target.is_met(found.high)}
    if len(ends) > 1:
        return "not resolved"
    return "met" if benchmark.check(what, found.percent, target) else "missed"


def show_rivals(benchmark: Benchmark, seen: dict[str, list[Outcome]]) -> None:
    """The same sessions, judged by others."""
    heads = [f"{name}:{len(name) + 1}" for name in RIVALS]
    for title, cases, count in (
        ("sessions with a red, %", UNCHANGED, any_red),
        ("pairs found, %", SLOWER, red),
    ):
        benchmark.head(f"{title}:24", "gate:6", *heads)
        for case in cases:
            outcomes = seen[case.name]
            shares = {"gate": share([count(one) for one in outcomes])}
            for name in RIVALS:
                theirs = [msgspec.structs.replace(one, red=one.rivals[name]) for one in outcomes]
                shares[name] = share([count(one) for one in theirs])
            cells = [f"{each.percent:.3g}" for each in shares.values()]
            benchmark.row(case.name, *cells, part="rivals", case=case, shares=shares)


def main() -> int:
    """Print both tables; the exit code is 1 when a target is missed."""
    options = option_parser(__doc__).parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    part = QUICK_PART if benchmark.quick else 1.0
    tasks = [
        (case, chunk) for case in CASES for chunk in range(math.ceil(case.repeats * part / CHUNK))
    ]
    names = {"typical": TYPICAL, "single": SINGLE, "noisy": NOISY, "very noisy": VERY_NOISY}
    cvs = ", ".join(f"{name} {residual_cv(noise):.2%}" for name, noise in names.items())
    benchmark.note("residual_cv", f"residual CV of a session: {cvs}")
    benchmark.note("sessions", f"{CHUNK * len(tasks)} simulated sessions of {TESTS} tests")
    seen: dict[str, list[Outcome]] = {case.name: [] for case in CASES}
    with multiprocessing.Pool(PROCESSES) as pool:
        for (case, _), outcomes in zip(tasks, pool.starmap(simulate, tasks, 1), strict=True):
            seen[case.name] += outcomes
    show(benchmark, seen)
    show_rivals(benchmark, seen)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
