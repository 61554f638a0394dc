"""Is transformers as fast through our worker as by a bare `model.generate`?

    python benchmarks/parity_transformers.py [--quick] [--pairs N] [--json FILE]

A pair is two fresh processes, one after the other; every other pair the other way round. Each
loads the model, answers one request untimed, then as many timed as the other; its value is the
median of tokens per second over the whole request, from the call until its last token is there.
Ours hands a streamer to `generate`, which takes the instant of each token; bare `generate` has
none, so the ratio is what those instants cost. Threads, element type, attention, prompts and
generation settings are the same.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from others import Generated, ask
from paired import Benchmark, Target, compare, option_parser
from worker_arm import in_fresh_worker, loading

from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.models import ModelSpec

PARITY = Target(least=0.98)
ATTENTION = "sdpa"
CASES = (
    ("llama-15m", Workload(prompt_tokens=64, new_tokens=128)),
    ("llama-160m", Workload(prompt_tokens=64, new_tokens=64)),
)
REPEATS = 3


def arms(
    name: str, workload: Workload, folder: Path
) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Our worker, and a bare program."""
    spec, threads = ModelSpec(f"synthetic:{name}", "BF16"), usable_cores()
    options = {"num_threads": threads, "device": "cpu", "attn_implementation": ATTENTION}
    what = loading(spec, "transformers", options)
    assert what.files is not None
    bare = Generated(
        path=what.files.path,
        num_threads=threads,
        attn_implementation=ATTENTION,
        workload=workload,
        repeats=REPEATS,
    )
    ours = in_fresh_worker(folder, what, workload, REPEATS, _e2e_tps)
    return ours, lambda _: ask(bare)


def _e2e_tps(sample: Sample) -> float:
    return sample.new_tokens / sample.e2e_s


def main() -> int:
    """Print the table; the exit code is 1 when a target is missed."""
    parser = option_parser(__doc__)
    parser.add_argument("--pairs", type=int, help="default 10; with --quick 3")
    options = parser.parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    version = importlib.metadata.version
    benchmark.note(
        "engine", f"transformers {version('transformers')}, torch {version('torch')}, CPU, BF16"
    )
    benchmark.head("tokens:30", "ours:8", "generate:10", "ratio (quartiles):21", "target:10")
    pairs = options.pairs or (3 if options.quick else 10)
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        for name, workload in CASES[1:] if options.quick else CASES:
            comparison = compare(pairs, *arms(name, workload, Path(folder)))
            (mine, others), ratio = comparison.medians, comparison.ratio
            label = f"{name} BF16 {workload.prompt_tokens}+{workload.new_tokens}"
            benchmark.row(
                label,
                f"{mine:.1f}",
                f"{others:.1f}",
                ratio.text(".3f"),
                str(PARITY),
                model=name,
                workload=workload,
                unit="tok/s",
                comparison=comparison,
                ratio=ratio,
            )
            benchmark.check(label, round(ratio.median, 3), PARITY)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
