"""Are our decode and prefill as fast as llama-bench says they can be?

    python benchmarks/parity_llama_bench.py [--quick] [--pairs N] [--json FILE]

A pair is two fresh processes, ours and llama-bench's, one after the other; every other pair the
other way round. Each loads the model, runs once untimed, then as often timed as the other; its
value is the median. So both have the same life behind them, and the luck of where a process's
memory lies is drawn anew for each pair. Threads, batch, micro-batch, flash attention, context
size and context depth are the same.

Decode: llama-bench reads D tokens, then times N steps that feed a random token and wait for the
logits. Ours reads D, takes the first token, and times the N steps after it; each step also picks
the token greedily, as every user must. Prefill: both read D tokens untimed, then P timed, with
logits for the last only; ours also picks the first token.

A third program, `llama_cpp.Llama`, streams a whole request of D prompt tokens and up to 129 new
ones, and is compared by tokens/s from the call to the last token. It also makes text of them,
which takes the longer the more it holds back; random weights write many broken characters, so
there is no target.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from llama_bench_build import BuildsDiffer, binding_libraries, describe, llama_bench
from others import Streamed, ask, output
from paired import Benchmark, Comparison, Target, compare, option_parser
from worker_arm import in_fresh_worker, loading

from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.models import ModelSpec

PARITY = Target(0.97, 1.03)
BATCH, MICRO_BATCH = 2048, 512
REPEATS = 3
STREAMED = 128
"""Tokens streamed at the most: see above."""
_CONTEXT_STEP = 256
"""llama.cpp rounds a context up to a multiple of this many tokens."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One model, what it decodes and reads, and where the decode ratio has to lie."""

    name: str
    quantization: str
    depth: int = 64
    new: int = 128
    prompt: int = 512
    decode: Target = PARITY
    is_quick: bool = True

    @property
    def label(self) -> str:
        """``llama-160m Q8_0``."""
        return f"{self.name} {self.quantization}"


CASES = (
    Case(name="llama-15m", quantization="Q8_0", new=512, decode=Target(least=0.92)),
    Case(name="llama-160m", quantization="Q4_K_M"),
    Case(name="llama-160m", quantization="Q8_0", is_quick=False),
    Case(name="tinyllama-1.1b", quantization="Q4_K_M", new=64, prompt=256, is_quick=False),
)


class BenchResult(msgspec.Struct, frozen=True):
    """What is read of llama-bench's answer."""

    samples_ns: list[int]


class Arms:
    """The programs to be compared on one model."""

    def __init__(self, case: Case, program: Path, folder: Path, repeats: int) -> None:
        self._case, self._program, self._folder, self._repeats = case, program, folder, repeats
        self._spec = ModelSpec(f"synthetic:{case.name}", case.quantization)
        self._threads = usable_cores()

    def ours(
        self, workload: Workload, figure: Callable[[Sample], float | None]
    ) -> Callable[[int], float]:
        """Our worker, with a context that just holds the workload."""
        options = {
            "n_ctx": workload.total_tokens,
            "n_threads": self._threads,
            "n_batch": BATCH,
            "n_ubatch": MICRO_BATCH,
            "flash_attn": "on",
        }
        what = loading(self._spec, "llama-cpp", options)
        return in_fresh_worker(self._folder, what, workload, self._repeats, figure)

    def llama_bench(self, *, prompt: int = 0, new: int = 0) -> Callable[[int], float]:
        """llama-bench; it makes a context of depth + prompt + new tokens."""
        files = loading(self._spec, "llama-cpp", {}).files
        assert files is not None
        case, threads = self._case, str(self._threads)
        asked = ["-p", str(prompt), "-n", str(new), "-d", str(case.depth)]
        same = ["-t", threads, "-b", str(BATCH), "-ub", str(MICRO_BATCH), "-fa", "on"]
        form = ["-r", str(self._repeats), "-o", "json"]
        command = [str(self._program), "-m", files.path, *asked, *same, *form]

        def arm(_: int) -> float:
            (told,) = msgspec.json.decode(output(command), type=list[BenchResult])
            return (prompt + new) / (statistics.median(told.samples_ns) / 1e9)

        return arm

    def streaming(self, workload: Workload) -> Callable[[int], float]:
        """`llama_cpp.Llama`, streaming a completion; tokens/s of the whole request."""
        files = loading(self._spec, "llama-cpp", {}).files
        assert files is not None
        assert files.vocab_size is not None
        asked = Streamed(
            path=files.path,
            n_ctx=workload.total_tokens,
            n_threads=self._threads,
            n_batch=BATCH,
            n_ubatch=MICRO_BATCH,
            vocab_size=files.vocab_size,
            workload=workload,
            repeats=self._repeats,
        )
        return lambda _: ask(asked)


def run(benchmark: Benchmark, case: Case, arms: Arms, pairs: int) -> None:
    """Compare one model in all three ways; the quick form leaves the third out."""
    decode = Workload(prompt_tokens=1, depth=case.depth - 1, new_tokens=case.new + 1)
    prefill = Workload(prompt_tokens=case.prompt, depth=case.depth, new_tokens=1)
    request = Workload(prompt_tokens=case.depth, new_tokens=min(case.new, STREAMED) + 1)
    for workload, tokens in ((decode, case.new), (prefill, case.prompt)):
        if _context(workload.total_tokens) != _context(case.depth + tokens):
            raise ValueError(f"{case.label}: unequal contexts; take another depth or length")
    ways = (
        (
            f"decode {case.new}",
            arms.ours(decode, _decode_tps),
            arms.llama_bench(new=case.new),
            case.decode,
        ),
        (
            f"prefill {case.prompt}",
            arms.ours(prefill, _prefill_tps),
            arms.llama_bench(prompt=case.prompt),
            PARITY,
        ),
        (
            f"stream {case.depth}+{request.new_tokens}",
            arms.ours(request, _e2e_tps),
            arms.streaming(request),
            Target(),
        ),
    )
    for what, ours, theirs, target in ways[:2] if benchmark.quick else ways:
        _tell(benchmark, case.label, what, compare(pairs, ours, theirs), target)


def _decode_tps(sample: Sample) -> float | None:
    return sample.decode_tps


def _prefill_tps(sample: Sample) -> float:
    return sample.prefill_tps


def _e2e_tps(sample: Sample) -> float:
    return sample.new_tokens / sample.e2e_s


def _context(tokens: int) -> int:
    return -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP


def _tell(
    benchmark: Benchmark, label: str, what: str, comparison: Comparison, target: Target
) -> None:
    mine, others = comparison.medians
    ratio = comparison.ratio
    benchmark.row(
        f"{label} {what}",
        f"{mine:.0f}",
        f"{others:.0f}",
        ratio.text(".3f"),
        str(target),
        model=label,
        what=what,
        unit="tok/s",
        comparison=comparison,
        ratio=ratio,
    )
    benchmark.check(f"{label} {what}", round(ratio.median, 3), target)


def main() -> int:
    """Print the table; the exit code is 1 when a target is missed, 2 when nothing compares."""
    parser = option_parser(__doc__)
    parser.add_argument("--pairs", type=int, help="default 10; with --quick 3")
    parser.add_argument("--model", help="only the cases whose name contains this")
    options = parser.parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    try:
        program = llama_bench()
    except BuildsDiffer as error:
        print(error)
        return 2
    build = describe(binding_libraries())
    benchmark.note("engine", f"llama.cpp with ggml {build.ggml} in both: {build.system}")
    benchmark.head("tokens:34", "ours:6", "theirs:8", "ratio (quartiles):21", "target:11")
    pairs = options.pairs or (3 if options.quick else 10)
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        for case in CASES:
            if (options.quick and not case.is_quick) or (options.model or "") not in case.label:
                continue
            repeats = 2 if options.quick else REPEATS
            run(benchmark, case, Arms(case, program, Path(folder), repeats), pairs)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
