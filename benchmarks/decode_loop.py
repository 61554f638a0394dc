"""Does the low-level decode loop cost or gain anything over the binding's own generator?

    python benchmarks/decode_loop.py [--pairs N]

One run, one loaded model each, the arms interleaved A B B A so that drift hits both alike; prints
the median of the paired ratios. Threads and flash attention are the same in both arms.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable

import llama_cpp

from pytest_llmperf.backends import Timeline, find_backend
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.models import ModelFiles, ModelSpec, resolve

PROMPT, NEW = 64, 128
CASES = (("llama-15m", "Q8_0"), ("llama-160m", "Q4_K_M"), ("llama-160m", "Q8_0"))


_SILENT = llama_cpp.llama_log_callback(lambda *_: None)


def ours(files: ModelFiles) -> Callable[[int], float]:
    """Decode speed of one request through this package's loop, in tokens/s."""
    backend = find_backend("llama-cpp")
    backend.import_engine()
    engine = backend.load(files, LlamaCppOptions(n_ctx=512, n_threads=2, flash_attn="on"), 0)
    llama_cpp.llama_log_set(_SILENT, None)

    def once(seed: int) -> float:
        timeline = Timeline(NEW)
        engine.generate([(seed + i) % 32000 for i in range(PROMPT)], NEW, timeline)
        instants = timeline.instants_ns
        return (NEW - 1) / ((instants[-1] - instants[0]) / 1e9)

    return once


def theirs(files: ModelFiles) -> Callable[[int], float]:
    """Decode speed of one request through ``Llama.generate``, greedy, in tokens/s."""
    llama = llama_cpp.Llama(
        files.path, n_ctx=512, n_threads=2, n_threads_batch=2, verbose=False, flash_attn=True
    )

    llama_cpp.llama_log_set(_SILENT, None)

    def once(seed: int) -> float:
        prompt = [(seed + i) % 32000 for i in range(PROMPT)]
        tokens = llama.generate(prompt, top_k=1, temp=0.0, reset=True)
        next(tokens)
        began = time.perf_counter()
        for _ in itertools.islice(tokens, NEW - 1):
            pass
        return (NEW - 1) / (time.perf_counter() - began)

    return once


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    pairs = parser.parse_args().pairs
    print(f"{'model':<22}{'ours tok/s':>12}{'Llama.generate':>16}{'ratio':>8}  quartiles")
    for name, quantization in CASES:
        files = resolve(ModelSpec(f"synthetic:{name}", quantization), "gguf")
        a, b = ours(files), theirs(files)
        a(0), b(0)
        seen: list[tuple[float, float]] = []
        for pair in range(1, pairs + 1):
            if pair % 2:
                first, second = a(pair * 1000), b(pair * 1000)
            else:
                second, first = b(pair * 1000), a(pair * 1000)
            seen.append((first, second))
        ratios = sorted(x / y for x, y in seen)
        low, middle, high = statistics.quantiles(ratios, n=4)
        mine, other = (statistics.median(column) for column in zip(*seen, strict=True))
        label = f"{name} {quantization}"
        print(f"{label:<22}{mine:>12.0f}{other:>16.0f}{middle:>8.2f}  {low:.2f}–{high:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
