"""Does the gate hold on this machine? Real sessions of an unchanged build, then injected losses.

    python benchmarks/gate_reality.py [--quick] [--json FILE] [--sessions 40] [--injected 10]

Each session is a `pytest --llmperf --llmperf-record` of its own over small models, judged by all
sessions before it; on one thread, which other guests of the host disturb least. Then the engine's
loop is slowed down by 3, 5 and 10 %: the worker spins for that share of the time that its calls of
llama.cpp took. Nothing but the worker knows. What the loss really was is told beside it, the median
over all pairs of what each lost: against the 20 unchanged sessions right before, "lately", and
against the first 20, "normal", which the gate compares with as long as nobody accepts another.
Takes one to two hours on 2 cores; --quick 6 and 3 sessions.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from paired import Benchmark, Target, option_parser

from pytest_llmperf.gate import Verdict
from pytest_llmperf.gate.baseline import PairKey
from pytest_llmperf.gate.pair import SPEEDS, PairResult
from pytest_llmperf.gate.past import CENTRE_SESSIONS
from pytest_llmperf.report.result import RunResult

LOSSES = (0.03, 0.05, 0.10)
FALSE_RED = Target(most=0)
FOUND = {0.10: Target(least=0.9)}
HONEST = {0.05: Target(most=0)}
KEPT = Target(most=0.2)  # an MDE is what is found in four cases of five
SHOWN = (Verdict.PASSED, Verdict.IMPROVED, Verdict.INCONCLUSIVE, Verdict.NO_BASELINE,
         Verdict.REGRESSED)  # fmt: skip
SUITE = """
import pytest

@pytest.mark.perf(max_regression="3%")
@pytest.mark.parametrize(
    "model, quantization, prompt_tokens, new_tokens",
    [
        ("llama-15m", "F16", 192, 48), ("llama-15m", "Q8_0", 192, 48),
        ("llama-15m", "Q4_K_M", 192, 48), ("llama-15m", "Q4_0", 192, 48),
        ("llama-160m", "Q8_0", 64, 16), ("llama-160m", "Q4_K_M", 64, 16),
    ],
)
def test_smoke(load_model, measure, model, quantization, prompt_tokens, new_tokens):
    loaded = load_model(
        f"synthetic:{model}", backend="llama-cpp", quantization=quantization, n_threads=1,
        n_threads_batch=1,
    )
    measure(loaded, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
"""
HOOK = """
import os, sys, time
if "pytest_llmperf.worker" in sys.orig_argv:
    from pytest_llmperf.backends.llama_sequences import LlamaSequences

    loss = float(os.environ["GATE_REALITY_LOSS"])
    decode = LlamaSequences._decode
    owed = 0.0

    def slowed(self, count, outputs):
        global owed
        began = time.perf_counter()
        tokens = decode(self, count, outputs)
        ended = time.perf_counter()
        owed += (ended - began) * loss / (1 - loss)
        if count > 1 or owed > 0.001:  # a pause puts the engine's threads to sleep: not too often
            while time.perf_counter() < ended + owed:
                pass
            owed = 0.0
        return tokens

    LlamaSequences._decode = slowed
"""


class Project:
    """A folder with the suite, its baselines, and the hook that slows an engine down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_smoke.py").write_text(SUITE)
        (folder / "site").mkdir(exist_ok=True)
        (folder / "site/sitecustomize.py").write_text(HOOK)

    def session(self, name: str, loss: float | None = None) -> Session:
        """One run; recorded if the build is unchanged. Raises SystemExit where pytest broke."""
        variables = dict(os.environ)
        arguments = ["--llmperf-record"]
        if loss is not None:
            arguments = []
            paths = [str(self.folder / "site"), variables.get("PYTHONPATH", "")]
            variables |= {
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "GATE_REALITY_LOSS": str(loss),
            }
        out = self.folder / f"{name}.json"
        if out.exists():  # of an earlier run of this benchmark that was stopped
            return Session(msgspec.json.decode(out.read_bytes(), type=RunResult))
        whole = out.with_suffix(".part")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--llmperf", "--llmperf-history=off",
             f"--llmperf-json={whole}", *arguments],
            cwd=self.folder, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise SystemExit(f"pytest measured no whole session:\n{done.stdout}{done.stderr}")
        whole.rename(out)  # a session that was cut off is taken again
        return Session(msgspec.json.decode(out.read_bytes(), type=RunResult))


class Session:
    """The speeds of one session that were compared with earlier ones."""

    def __init__(self, result: RunResult) -> None:
        self.pairs: list[PairResult] = [
            pair
            for test in result.tests
            for judged in test.measurements
            for pair in judged.pairs
            if pair.is_gated and pair.key.metric in SPEEDS
        ]
        self.suite = [shift.verdict for shift in result.suite_shifts]

    @property
    def verdicts(self) -> Counter[Verdict]:
        """How often each."""
        return Counter(pair.verdict for pair in self.pairs)

    @property
    def is_red(self) -> bool:
        """Whether any pair is worse than it was, or all of them together are."""
        return Verdict.REGRESSED in self.verdicts or self.is_shifted

    @property
    def is_shifted(self) -> bool:
        """Whether all pairs together are worse."""
        return Verdict.REGRESSED in self.suite

    def found(self, loss: float) -> float:
        """The share of pairs that the judge expects to call red at this loss.

        The judge's own error and border, taken back from its interval and its MDE (docs/gate.md);
        NaN without them.
        """
        return statistics.fmean(_power(pair, loss) for pair in self.pairs)

    def silent(self, loss: float) -> int:
        """Pairs that passed although their MDE says that such a loss is found."""
        return sum(
            pair.verdict is Verdict.PASSED and (pair.judgement.mde or math.inf) <= loss
            for pair in self.pairs
        )

    def promised(self, lost: Mapping[PairKey, float]) -> list[PairResult]:
        """Pairs that lost what their MDE says is found, four times in five, or more."""
        return [pair for pair in self.pairs if (pair.judgement.mde or math.inf) <= lost[pair.key]]


def _power(pair: PairResult, loss: float) -> float:
    told = pair.judgement
    if told.low is None or told.high is None or told.mde is None:
        return math.nan
    error = math.log((1 + told.high) / (1 + told.low)) / 2 / 2.05  # t(0.975) at about 27
    border = -math.log1p(-told.mde) - 0.855 * error
    return statistics.NormalDist(0, error).cdf(-math.log1p(-loss) - border)


def measured_losses(before: Sequence[Session], slowed: Sequence[Session]) -> dict[PairKey, float]:
    """By how much each pair really was slower than in the sessions ``before``."""

    def medians(sessions: Sequence[Session]) -> dict[PairKey, float]:
        values: dict[PairKey, list[float]] = {}
        for session in sessions:
            for pair in session.pairs:
                values.setdefault(pair.key, []).append(pair.looks[0].log_value)
        return {key: statistics.median(each) for key, each in values.items()}

    usual, after = medians(before), medians(slowed)
    return {key: -math.expm1(after[key] - usual[key]) for key in usual}


def take(project: Project, sessions: int, injected: int) -> dict[float | None, list[Session]]:
    """The placebo, then the losses in turns, so that all of them meet the machine's moods."""
    kinds = [None] * sessions + list(LOSSES) * injected
    seen: dict[float | None, list[Session]] = {None: [], **{loss: [] for loss in LOSSES}}
    for number, loss in enumerate(kinds, start=1):
        session = project.session(f"session-{number:03d}", loss)
        seen[loss].append(session)
        told = ", ".join(f"{name} {count}" for name, count in session.verdicts.items())
        told += "; the suite REGRESSED" if session.is_shifted else ""
        print(f"  {number}/{len(kinds)} {name_of(loss)}: {told}", file=sys.stderr, flush=True)
    return seen


def name_of(loss: float | None) -> str:
    """Of one kind of build."""
    return "unchanged" if loss is None else f"{loss:.0%} slower"


def tell(benchmark: Benchmark, seen: dict[float | None, list[Session]]) -> None:
    """One line for each kind of build."""
    benchmark.head("build:11", "lately:7", "normal:7", "sessions:9", "red:4", "suite:6",
                   "PASSED:7", "IMPR.:6", "INCON.:7", "NO_B.:5", "REGR.:6", "MDE:4")  # fmt: skip
    unchanged = seen[None]
    for loss, sessions in seen.items():
        verdicts = sum((each.verdicts for each in sessions), Counter[Verdict]())
        red = sum(each.is_red for each in sessions)
        shifted = sum(each.is_shifted for each in sessions)
        mdes = [p.judgement.mde for each in sessions for p in each.pairs if p.judgement.mde]
        lately = measured_losses(unchanged[-CENTRE_SESSIONS:], sessions)
        lost = measured_losses(unchanged[:CENTRE_SESSIONS], sessions)
        really, from_normal = (statistics.median(each.values()) for each in (lately, lost))
        middle = statistics.median(mdes) if mdes else math.nan
        benchmark.row(
            name_of(loss),
            f"{really:.1%}" if loss else "",
            f"{from_normal:.1%}" if loss else "",
            str(len(sessions)),
            str(red),
            str(shifted),
            *(str(verdicts[each]) for each in SHOWN),
            f"{middle:.0%}",
            build=name_of(loss), measured_loss=really, from_normal=from_normal,
            sessions=len(sessions), red_sessions=red, shifted=shifted, verdicts=dict(verdicts),
            mde=middle,
        )  # fmt: skip
        if loss is None:
            benchmark.check("red sessions of an unchanged build", red, FALSE_RED)
        if loss in HONEST:
            hidden = sum(not each.is_red and each.silent(loss) > 0 for each in sessions)
            what = f"sessions when {name_of(loss)} that are green though an MDE promises red"
            benchmark.check(what, hidden, HONEST[loss])
        if loss in FOUND:
            benchmark.check(f"red sessions when {name_of(loss)}", red / len(sessions), FOUND[loss])
    for loss in LOSSES:
        sessions = seen[loss]
        pairs = sum(len(each.pairs) for each in sessions)
        red_pairs = sum(each.verdicts[Verdict.REGRESSED] for each in sessions)
        expected = statistics.fmean(each.found(loss) for each in sessions)
        lost = measured_losses(unchanged[:CENTRE_SESSIONS], sessions)
        promised = [pair for each in sessions for pair in each.promised(lost)]
        silent = sum(pair.verdict is Verdict.PASSED for pair in promised)
        kind = name_of(loss)
        benchmark.note(
            f"pairs, {kind}",
            f"{kind}: {red_pairs / pairs:.0%} of {pairs} pairs red, {expected:.0%} expected "
            f"from their own noise; {len(promised)} lost their MDE or more, and {silent} of "
            "these passed",
        )
        if promised:
            what = f"share of these that passed, {kind}"
            benchmark.check(what, silent / len(promised), KEPT)


def main() -> int:
    """Run the benchmark; the exit code."""
    parser = option_parser(__doc__)
    parser.add_argument("--sessions", type=int, metavar="N", help="unchanged ones (40)")
    parser.add_argument("--injected", type=int, metavar="N", help="for each loss (10)")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep every session's result, and go on from those that are there",
    )
    options: argparse.Namespace = parser.parse_args()
    benchmark = Benchmark(__doc__ or "", options)
    with tempfile.TemporaryDirectory(prefix="gate-reality-") as folder:
        kept: Path = options.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        seen = take(
            Project(kept),
            options.sessions or (6 if options.quick else 40),
            options.injected or (3 if options.quick else 10),
        )
    tell(benchmark, seen)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
