"""Does decoding through llama-server's interface lose anything against llama.cpp in the worker?

    python benchmarks/parity_llama_server.py [--quick] [--pairs N] [--threads N] [--model TEXT]
        [--json FILE]

A pair is two fresh workers, one after the other, every other pair the other way round: `openai`,
which starts llama-server and reads its stream, and `llama-cpp`, which calls the same llama.cpp
itself. Each loads the model, answers one request untimed and three timed; its value is the median
decode speed. Threads, context, batch, micro-batch and flash attention are the same, and so is the
source of both builds.

What the server has on top: its sampler chain, a task queue and an HTTP thread, JSON for each token;
and our client, which wakes for each token on the same cores. All of that is a fixed time a token,
so the smaller the model the larger its share; only the largest has a target.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from llama_bench_build import BuildsDiffer, binding_libraries, describe, llama_server
from paired import Benchmark, Target, compare, option_parser
from worker_arm import in_fresh_worker, loading

from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.loading import Loading

PARITY = Target(0.95, 1.05)
CONTEXT, BATCH, MICRO_BATCH = 256, 256, 256
REPEATS = 3


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One model, and where the ratio has to lie."""

    name: str
    quantization: str
    target: Target = Target()
    is_quick: bool = True

    @property
    def label(self) -> str:
        """``tinyllama-1.1b Q4_K_M``."""
        return f"{self.name} {self.quantization}"

    @property
    def spec(self) -> ModelSpec:
        """The synthetic model."""
        return ModelSpec(f"synthetic:{self.name}", self.quantization)


CASES = (
    Case(name="tinyllama-1.1b", quantization="Q4_K_M", target=PARITY),
    Case(name="llama-160m", quantization="Q4_K_M", is_quick=False),
)
WORKLOAD = Workload(prompt_tokens=64, new_tokens=65)


def through_server(case: Case, program: Path, threads: int) -> Loading:
    """The ``openai`` backend with its own llama-server."""
    same = f"--batch-size {BATCH} --ubatch-size {MICRO_BATCH} --flash-attn on"
    options = {
        "command": f"{program} --model {{model}} --host {{host}} --port {{port}} "
        "--ctx-size {context_tokens} --threads {threads} --parallel 1 --cache-ram 0 --offline",
        "command_loads": "gguf",
        "arguments": same,
        "context_tokens": CONTEXT,
        "threads": threads,
    }
    return loading(case.spec, "openai", options)


def in_process(case: Case, threads: int) -> Loading:
    """The ``llama-cpp`` backend with the same settings."""
    options = {
        "n_ctx": CONTEXT,
        "n_batch": BATCH,
        "n_ubatch": MICRO_BATCH,
        "n_threads": threads,
        "flash_attn": "on",
    }
    return loading(case.spec, "llama-cpp", options)


def decode_tps(sample: Sample) -> float | None:
    """Tokens per second after the first."""
    return sample.decode_tps


def run(benchmark: Benchmark, case: Case, arms: Sequence[Loading], pairs: int) -> None:
    """Compare one model both ways."""
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        comparison = compare(
            pairs,
            *(in_fresh_worker(Path(folder), arm, WORKLOAD, REPEATS, decode_tps) for arm in arms),
        )
    served, called = comparison.medians
    ratio = comparison.ratio
    a_token_ms = 1e3 / served - 1e3 / called
    benchmark.row(
        case.label,
        f"{served:.1f}",
        f"{called:.1f}",
        ratio.text(".3f"),
        f"{a_token_ms:+.2f}",
        str(case.target),
        model=case.label,
        unit="tok/s",
        comparison=comparison,
        ratio=ratio,
    )
    benchmark.check(case.label, round(ratio.median, 3), case.target)


def main() -> int:
    """Print the table; the exit code is 1 when a target is missed, 2 when nothing compares."""
    parser = option_parser(__doc__)
    parser.add_argument("--pairs", type=int, help="default 8; with --quick 2")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="default: all cores")
    parser.add_argument("--model", default="", help="only the cases whose name contains this")
    options = parser.parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    try:
        program = llama_server()
    except BuildsDiffer as error:
        print(error)
        return 2
    build = describe(binding_libraries())
    benchmark.note("engine", f"llama.cpp with ggml {build.ggml} in both: {build.system}")
    benchmark.note("threads", f"{options.threads} threads in both")
    benchmark.head("tok/s:23", "served:8", "called:8", "ratio (quartiles):21", "ms:7", "target:11")
    pairs = options.pairs or (2 if options.quick else 8)
    for case in CASES:
        if options.model in case.label and (case.is_quick or not options.quick):
            arms = (
                through_server(case, program, options.threads),
                in_process(case, options.threads),
            )
            run(benchmark, case, arms, pairs)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
