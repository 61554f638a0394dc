"""Does the low-level decode loop cost or gain anything over the binding's own generator?

    python benchmarks/decode_loop.py [--quick] [--pairs N] [--json FILE]

One process, one loaded model each, the arms taking turns A B B A. Threads and flash attention are
the same in both arms.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp
from paired import Benchmark, compare, option_parser

from pytest_llmperf.backends import Timeline, find_backend
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.measure import Workload
from pytest_llmperf.models import ModelFiles, ModelSpec, resolve

WORKLOAD = Workload(prompt_tokens=64, new_tokens=128)
STEPS = WORKLOAD.new_tokens - 1
VOCABULARY, CONTEXT, THREADS = 32000, 512, 2
CASES = (("llama-15m", "Q8_0"), ("llama-160m", "Q4_K_M"), ("llama-160m", "Q8_0"))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Drop what the engine logs, which goes to descriptor 2 past Python."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def ours(files: ModelFiles) -> Callable[[int], float]:
    """Decode speed of one request through this package's loop, in tokens/s."""
    backend = find_backend("llama-cpp")
    backend.import_engine()
    options = LlamaCppOptions(n_ctx=CONTEXT, n_threads=THREADS, flash_attn="on")
    with quietly():
        engine = backend.load(files, options, 0)

    def arm(turn: int) -> float:
        timeline = Timeline(WORKLOAD.new_tokens)
        engine.generate(WORKLOAD.request(turn, VOCABULARY), timeline)
        instants = timeline.instants_ns
        return STEPS / ((instants[-1] - instants[0]) / 1e9)

    return arm


def theirs(files: ModelFiles) -> Callable[[int], float]:
    """Decode speed of one request through ``Llama.generate``, greedy, in tokens/s."""
    with quietly():
        llama = llama_cpp.Llama(
            files.path,
            n_ctx=CONTEXT,
            n_threads=THREADS,
            n_threads_batch=THREADS,
            verbose=False,
            flash_attn=True,
        )

    def arm(turn: int) -> float:
        (prompt,) = WORKLOAD.request(turn, VOCABULARY).prompts
        tokens = llama.generate(prompt, top_k=1, temp=0.0, reset=True)
        next(tokens)
        began = time.perf_counter()
        for _ in itertools.islice(tokens, STEPS):
            pass
        return STEPS / (time.perf_counter() - began)

    return arm


def main() -> int:
    """Print the table."""
    parser = option_parser(__doc__)
    parser.add_argument("--pairs", type=int, help="default 10; with --quick 4")
    options = parser.parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    benchmark.note("engine", f"llama-cpp-python {llama_cpp.__version__}")
    benchmark.head("tok/s:24", "ours:8", "Llama.generate:16", "ratio (quartiles):22")
    pairs = options.pairs or (4 if options.quick else 10)
    for name, quantization in CASES:
        files = resolve(ModelSpec(f"synthetic:{name}", quantization), "gguf")
        arms = ours(files), theirs(files)
        compare(1, *arms)
        comparison = compare(pairs, *arms)
        (mine, others), ratio = comparison.medians, comparison.ratio
        label = f"{name} {quantization}"
        benchmark.row(
            label,
            f"{mine:.0f}",
            f"{others:.0f}",
            ratio.text(".3f"),
            model=label,
            comparison=comparison,
            ratio=ratio,
        )
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
