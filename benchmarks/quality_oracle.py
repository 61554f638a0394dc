"""Are perplexity and KL divergence those of llama-perplexity?

    python benchmarks/quality_oracle.py [--quick] [--json FILE]

llama-perplexity of the same source reads the shipped text with the reference and keeps its logits
(as 16-bit numbers), then reads it with a quantization. `measure(..., against=…)` does the same
through two workers. Both score the second half of the same 8 windows of 512 tokens: what differs is
arithmetic and rounding. Its logits are kept in 16 bits, and it prints six decimals.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from llama_bench_build import llama_perplexity
from paired import Benchmark, Target, option_parser
from worker_arm import loading

from pytest_llmperf.measure.quality import Quality, summarize_quality
from pytest_llmperf.measure.reference import LoadedReference
from pytest_llmperf.measure.scoring import WINDOW_TOKENS, WINDOWS, read_passage, read_window
from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.texts import MEASURED
from pytest_llmperf.worker.pool import WorkerPool

SOURCE, REFERENCE = "trained:small", "F16"
QUANTIZATIONS = ("Q8_0", "Q4_K_M", "Q2_K")
WITHIN = {"perplexity": 1e-4, "KL divergence": 0.02, "top-1 agreement": 1e-4}
"""Shares of llama-perplexity's value."""
_PRINTED = 1e-6
TIMEOUT_S = 300.0
_TOLD = {
    "perplexity": r"Mean PPL\(Q\) +: +([0-9.]+) ± +([0-9.]+)",
    "KL divergence": r"Mean +KLD: +([0-9.e-]+) ± +([0-9.e-]+)",
    "top-1 agreement": r"Same top p: +([0-9.]+) ± +([0-9.]+) %",
}


def theirs(program: Path, quantization: str, base: Path) -> dict[str, tuple[float, float]]:
    """Value and standard error of each, as llama-perplexity prints them."""
    done = _run(program, quantization, "--kl-divergence", "--kl-divergence-base", str(base))
    found = {}
    for name, pattern in _TOLD.items():
        match = re.search(pattern, done)
        if match is None:
            raise SystemExit(f"llama-perplexity does not tell {name}:\n{done[-3000:]}")
        scale = 0.01 if name == "top-1 agreement" else 1.0
        found[name] = (float(match[1]) * scale, float(match[2]) * scale)
    return found


def _run(program: Path, quantization: str, *more: str) -> str:
    path = resolve(ModelSpec(SOURCE, quantization), "gguf").path
    size = ("--ctx-size", str(WINDOW_TOKENS), "--chunks", str(WINDOWS))
    command = [str(program), "--model", path, "--file", str(MEASURED), *size, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr[-3000:]}")
    return done.stdout + done.stderr


def ours(quantization: str, logs: Path) -> Quality:
    """Through two workers."""
    pool = WorkerPool(logs)
    try:
        options = {"n_ctx": WINDOW_TOKENS}
        kinds = (quantization, REFERENCE)
        model, reference = (
            pool.load(loading(ModelSpec(SOURCE, each), "llama-cpp", options)) for each in kinds
        )
        passage = read_passage(model, MEASURED, TIMEOUT_S)
        beside = LoadedReference(reference, MEASURED, TIMEOUT_S)
        return summarize_quality(
            [
                read_window(model, passage, number, TIMEOUT_S, beside)
                for number in range(len(passage.windows))
            ]
        )
    finally:
        pool.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare every quantization; the exit code."""
    options = option_parser(__doc__).parse_args(arguments)
    benchmark = Benchmark(__doc__.splitlines()[0], options)
    program = llama_perplexity()
    benchmark.head("quantization:12", "of:16", "ours:11", "llama-perplexity:24", "apart:10")
    with tempfile.TemporaryDirectory(prefix="quality-") as folder:
        base = Path(folder) / "base"
        _run(program, REFERENCE, "--kl-divergence-base", str(base))
        for quantization in QUANTIZATIONS[: 1 if options.quick else None]:
            told = theirs(program, quantization, base)
            seen = ours(quantization, Path(folder))
            assert seen.kl_divergence is not None
            assert seen.top1_agreement is not None
            values = (seen.perplexity, seen.kl_divergence, seen.top1_agreement)
            for (name, (value, error)), found in zip(told.items(), values, strict=True):
                apart = max(0.0, abs(found.value - value) - _PRINTED) / value
                benchmark.row(
                    quantization, name, f"{found.value:.5g}", f"{value:.5g} ± {error:.2g}",
                    f"{apart:.1e}", quantization=quantization, quantity=name, ours=found.value,
                    theirs=value, error=error,
                )  # fmt: skip
                benchmark.check(f"{quantization} {name}: apart", apart, Target(most=WITHIN[name]))
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
