"""Does the gate hold on this machine? Real sessions of an unchanged build, then injected losses.

    python benchmarks/gate_reality.py [--quick] [--json FILE] [--sessions 40] [--injected 10]

Each session is a `pytest --llmperf --llmperf-record` of its own over small models, judged by all
sessions before it. Then the engine's loop is slowed down by 3, 5 and 10 %: after each call of
llama.cpp the worker spins for that share of the time that the call took. Nothing but the worker
knows. Takes about 40 minutes on 2 cores; --quick 6 and 3 sessions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
from paired import Benchmark, Target, option_parser

from pytest_llmperf.gate import Verdict
from pytest_llmperf.report.result import RunResult

LOSSES = (0.03, 0.05, 0.10)
FALSE_RED = Target(most=0)
FOUND = {0.10: Target(least=0.9)}
SUITE = """
import pytest

@pytest.mark.perf(max_regression="3%")
@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("model", ["llama-15m", "llama-160m"])
def test_smoke(load_model, measure, model, quantization):
    loaded = load_model(f"synthetic:{model}", backend="llama-cpp", quantization=quantization)
    measure(loaded, prompt_tokens=128, new_tokens=48)
"""
HOOK = """
import os, sys, time
if "pytest_llmperf.worker" in sys.orig_argv:
    from pytest_llmperf.backends.llama_sequences import LlamaSequences

    loss = float(os.environ["GATE_REALITY_LOSS"])
    decode = LlamaSequences._decode

    def slowed(self, count, outputs):
        began = time.perf_counter()
        tokens = decode(self, count, outputs)
        until = began + (time.perf_counter() - began) / (1 - loss)
        while time.perf_counter() < until:
            pass
        return tokens

    LlamaSequences._decode = slowed
"""


class Project:
    """A folder with the suite, its baselines, and the hook that slows an engine down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_smoke.py").write_text(SUITE)
        (folder / "site").mkdir()
        (folder / "site/sitecustomize.py").write_text(HOOK)

    def session(self, loss: float | None = None) -> RunResult:
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
        out = self.folder / "out.json"
        out.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--llmperf", "--llmperf-history=off",
             f"--llmperf-json={out}", *arguments],
            cwd=self.folder, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not out.exists():
            raise SystemExit(f"pytest wrote no result:\n{done.stdout}{done.stderr}")
        return msgspec.json.decode(out.read_bytes(), type=RunResult)


def verdicts(result: RunResult) -> Counter[Verdict]:
    """Of all gated speeds of a session."""
    return Counter(
        pair.verdict
        for test in result.tests
        for judged in test.measurements
        for pair in judged.pairs
        if pair.is_gated and pair.key.metric == "decode_tps"
    )


def mde(result: RunResult) -> list[float]:
    """The smallest losses that the session says it would find."""
    return [
        pair.judgement.mde
        for test in result.tests
        for judged in test.measurements
        for pair in judged.pairs
        if pair.key.metric == "decode_tps" and pair.judgement.mde is not None
    ]


def run(benchmark: Benchmark, project: Project, sessions: int, injected: int) -> None:
    """The placebo, then each loss."""
    benchmark.head("build:14", "sessions:9", "PASSED:8", "IMPROVED:9", "INCONCL.:9", "NO_BASE.:9",
                   "REGRESSED:10", "median MDE:11")  # fmt: skip
    for loss, count in ((None, sessions), *((each, injected) for each in LOSSES)):
        seen: Counter[Verdict] = Counter()
        red = 0
        least: list[float] = []
        for number in range(count):
            result = project.session(loss)
            told = verdicts(result)
            seen += told
            red += Verdict.REGRESSED in told
            least = mde(result) or least
            print(f"  {'unchanged' if loss is None else f'-{loss:.0%}'} {number + 1}/{count}: "
                  f"{json.dumps(told)}", file=sys.stderr, flush=True)  # fmt: skip
        middle = sorted(least)[len(least) // 2] if least else float("nan")
        name = "unchanged" if loss is None else f"{loss:.0%} slower"
        benchmark.row(
            name,
            str(count),
            *(str(seen[each]) for each in (Verdict.PASSED, Verdict.IMPROVED, Verdict.INCONCLUSIVE,
                                           Verdict.NO_BASELINE, Verdict.REGRESSED)),
            f"{middle:.1%}",
            build=name, sessions=count, red_sessions=red, verdicts=dict(seen), mde=middle,
        )  # fmt: skip
        if loss is None:
            benchmark.check("red sessions of an unchanged build", red, FALSE_RED)
        elif loss in FOUND:
            benchmark.check(f"sessions in which {name} was red", red / count, FOUND[loss])


def main() -> int:
    """Run the benchmark; the exit code."""
    parser = option_parser(__doc__)
    parser.add_argument("--sessions", type=int, metavar="N", help="unchanged ones (40)")
    parser.add_argument("--injected", type=int, metavar="N", help="for each loss (10)")
    options: argparse.Namespace = parser.parse_args()
    benchmark = Benchmark(__doc__ or "", options)
    with tempfile.TemporaryDirectory(prefix="gate-reality-") as folder:
        run(
            benchmark,
            Project(Path(folder)),
            options.sessions or (6 if options.quick else 40),
            options.injected or (3 if options.quick else 10),
        )
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
