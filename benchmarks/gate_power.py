"""Does the gate keep its promises? The real decision over simulated sessions, beside its rivals.

    python benchmarks/gate_power.py [--quick] [--json FILE] [--only "a seed"]

Every session is a suite of 50 tests of two metrics with a history of its own. All decisions are
those of `judge`, with its second look of 5 fresh processes, of `suite_shift`, and for arms that are
measured in turns of `compare`; the noise is that of gate_noise.py, and the rivals judge the same
samples. Seeds are fixed: the quick form is the
beginning of the whole one, too short to resolve the rarest alarms.

Intervals are Wilson's of 95 %. Pairs of one session share its day, so that they count for fewer
than they are wherever sessions differ by more than chance would have it.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import sys
from collections.abc import Sequence

import msgspec
import numpy as np
from gate_cases import (
    CASES,
    PROMISES,
    SLOWER,
    UNCHANGED,
    Case,
    Outcome,
    any_red,
    red,
    suite,
    suite_unsure,
    unsure,
)
from gate_noise import (
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
from gate_pairs import show_pairs
from gate_rivals import RIVALS
from gate_shares import Share, share
from paired import Benchmark, Target, option_parser

from pytest_llmperf.gate import Cohort, InvocationSummary, Judgement, SessionSummary, Verdict, judge
from pytest_llmperf.gate.slope import MOST_PROBE_CV
from pytest_llmperf.gate.statistics import cohort_of, session_variance
from pytest_llmperf.gate.suite import suite_shift

SEED = 2026
CHUNK = 10
"""Sessions that share a seed."""
QUICK_PART = 1 / 21
PROCESSES = 2
SEEDS = 5
"""Processes of a seed."""


def simulate(case: Case, chunk: int) -> list[Outcome]:
    """Some sessions, each with a history of its own."""
    generator = np.random.default_rng([SEED, CASES.index(case), chunk])
    return [_session(case, generator) for _ in range(CHUNK)]


def _session(case: Case, generator: np.random.Generator) -> Outcome:
    is_seed = not case.history
    before = draw(case.noise, 1 if is_seed else case.history, SEEDS if is_seed else 1, generator)
    after = draw(case.noise, case.recorded, 1, generator, machine=before.walked)
    start = after.walked + case.machine
    now = draw(case.noise, 1, 1 + SECOND_LOOKS, generator, machine=start)
    places = [(test, metric) for test in range(TESTS) for metric in range(METRICS)]
    known = before.seed if is_seed else before.history
    histories = [[*known(*place), *after.history(*place, case.loss)] for place in places]
    variances = list(map(session_variance, histories))
    cohorts = [cohort_of(variances[metric::METRICS], len(places)) for metric in range(METRICS)]
    verdicts, mdes, firsts, again_tests = [], [], [], set()
    for place, history in zip(places, histories, strict=True):
        cohort = cohorts[place[1]]
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
        rivals={} if case.at_mde or is_seed else _rivals(before, now, case.loss),
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
    for subject, every in PROMISES.items():
        rows = [each for each in every if each.case.name in seen]
        if not rows:
            continue
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
    parser = option_parser(__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="cases that are called so")
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.name]
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    part = QUICK_PART if benchmark.quick else 1.0
    tasks = [
        (case, chunk) for case in cases for chunk in range(math.ceil(case.repeats * part / CHUNK))
    ]
    names = {"typical": TYPICAL, "single": SINGLE, "noisy": NOISY, "very noisy": VERY_NOISY}
    cvs = ", ".join(f"{name} {residual_cv(noise):.2%}" for name, noise in names.items())
    benchmark.note("residual_cv", f"residual CV of a session: {cvs}")
    benchmark.note("sessions", f"{CHUNK * len(tasks)} simulated sessions of {TESTS} tests")
    seen: dict[str, list[Outcome]] = {case.name: [] for case in cases}
    with multiprocessing.Pool(PROCESSES) as pool:
        for (case, _), outcomes in zip(tasks, pool.starmap(simulate, tasks, 1), strict=True):
            seen[case.name] += outcomes
    show(benchmark, seen)
    if not options.only:
        show_pairs(benchmark, part)
        show_rivals(benchmark, seen)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
