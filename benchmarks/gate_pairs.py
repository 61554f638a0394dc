"""Do arms that are measured in turns get the right verdict, though one looks after every pair?"""

from __future__ import annotations

import math
import statistics

import msgspec
import numpy as np
from gate_noise import HEAVY, METRICS, NOISY, TYPICAL, VERY_NOISY, Noise, draw
from gate_shares import share
from paired import Benchmark, Target

from pytest_llmperf.gate import Verdict
from pytest_llmperf.gate.comparison import ALPHA, MOST_PAIRS, RatioLimit, decide, wants_more

SEED = 2026
TESTS = 100
LIMIT = RatioLimit("max_slowdown=0.03", 0.97)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Two builds on one machine, the limit a loss of 3 %."""

    name: str
    noise: Noise
    loss: float = 0.0
    """What B, the newer build, has lost."""
    wrong: Verdict | None = None
    """The verdict that may not be."""
    repeats: int = 100
    """Of TESTS tests with two metrics, in the whole form."""


CASES = (
    Case(name="equal, typical", noise=TYPICAL, wrong=Verdict.OVER_BUDGET),
    Case(name="equal, noisy", noise=NOISY, wrong=Verdict.OVER_BUDGET),
    Case(name="equal, heavy tails", noise=HEAVY, wrong=Verdict.OVER_BUDGET),
    Case(name="at the limit, typical", noise=TYPICAL, loss=0.03, wrong=Verdict.OVER_BUDGET),
    Case(name="at the limit, noisy", noise=NOISY, loss=0.03, wrong=Verdict.OVER_BUDGET),
    Case(name="5 % slower, typical", noise=TYPICAL, loss=0.05, wrong=Verdict.PASSED),
    Case(name="10 % slower, typical", noise=TYPICAL, loss=0.10, wrong=Verdict.PASSED),
    Case(name="10 % slower, noisy", noise=NOISY, loss=0.10, wrong=Verdict.PASSED),
    Case(name="10 % slower, very noisy", noise=VERY_NOISY, loss=0.10, wrong=Verdict.PASSED),
)


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one comparison."""

    verdict: Verdict
    pairs: int


def simulate(case: Case, generator: np.random.Generator) -> list[Compared]:
    """One session: both arms of every test and metric, in turns until decided."""
    seen = draw(case.noise, 1, 2 * MOST_PAIRS, generator, tests=TESTS).medians[0]
    newer, older = seen[:MOST_PAIRS] + math.log1p(-case.loss), seen[MOST_PAIRS:]
    differences = (newer - older).reshape(MOST_PAIRS, TESTS * METRICS).T.tolist()
    return [_compared(each) for each in differences]


def _compared(all_differences: list[float]) -> Compared:
    taken: list[float] = []
    while wants_more(taken, [LIMIT]):
        taken.append(all_differences[len(taken)])
    return Compared(verdict=decide(taken, LIMIT), pairs=len(taken))


def show_pairs(benchmark: Benchmark, part: float) -> None:
    """How often each verdict is, and after how many pairs."""
    benchmark.head("compared in turns, % of:26", "n:7", "broken:18", "kept:8", "unsure:8",
                   "pairs:7")  # fmt: skip
    for number, case in enumerate(CASES):
        generator = np.random.default_rng([SEED, number])
        sessions = [
            simulate(case, generator) for _ in range(max(2, math.ceil(case.repeats * part)))
        ]

        def counts(verdict: Verdict) -> list[tuple[int, int]]:
            return [
                (sum(each.verdict is verdict for each in one), len(one))
                for one in sessions  # noqa: B023 - called within the same turn
            ]

        found = {verdict: share(counts(verdict)) for verdict in (
            Verdict.OVER_BUDGET, Verdict.PASSED, Verdict.INCONCLUSIVE)}  # fmt: skip
        pairs = statistics.fmean(each.pairs for one in sessions for each in one)
        if case.wrong is not None:
            what = f"wrongly {case.wrong}, {case.name}, %"
            if found[case.wrong].low > 100 * ALPHA:
                benchmark.check(what, found[case.wrong].percent, Target(most=100 * ALPHA))
        benchmark.row(
            case.name,
            f"{found[Verdict.PASSED].n}",
            found[Verdict.OVER_BUDGET].text,
            f"{found[Verdict.PASSED].percent:.3g}",
            f"{found[Verdict.INCONCLUSIVE].percent:.3g}",
            f"{pairs:.1f}",
            part="compared in turns",
            case=case,
            shares=found,
            pairs=pairs,
        )
