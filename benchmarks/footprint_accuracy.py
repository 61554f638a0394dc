"""Does a model take the memory that was predicted, and is it as fast?

    python benchmarks/footprint_accuracy.py [--quick] [--json FILE] [--drawn-only]

Synthetic models of 14 architectures run in llama.cpp and transformers on the CPU; the peak of the
worker is held against the interval that the arithmetic gives before the load. The constants of
pytest_llmperf/fit were chosen by the first table; the second is of cases drawn by seed afterwards.
Beside it: accelerate's `estimate-memory` (the model alone, for the nearest of its types), and a
formula from hidden sizes (12·layers·hidden² + 2·vocabulary·hidden weights, 2·layers·tokens·hidden
cached numbers). Of llama.cpp, tensors and cache are compared with what it says itself. Takes a
quarter of an hour; --quick takes 6 of the drawn cases.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from footprint_cases import CONFIGS, FITTED, NEW_TOKENS, Case, drawn
from paired import Benchmark, Target, option_parser
from worker_arm import loading, send

from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.fit.footprint import Interval
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.of_options import footprint_of
from pytest_llmperf.fit.size_of_files import size_of_files, with_traffic
from pytest_llmperf.fit.speed import Part, efficiency_of, expected_speed
from pytest_llmperf.hardware.calibration import calibrate_cpu
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.lease import cpu_lease
from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.byte_figure import figure_of
from pytest_llmperf.models import ModelError, ModelFiles, ModelSpec
from pytest_llmperf.models.tensor_types import GGML_TYPES
from pytest_llmperf.worker.errors import WorkerError
from pytest_llmperf.worker.peaks import read_tree
from pytest_llmperf.worker.pool import WorkerPool

MIB = 1 << 20
INSIDE = Target(least=0.95)
WIDTH = Target(most=0.15)
MIDDLE = Target(most=0.03)
SPEED = Target(most=0.15)
_TIMED = 2
"""Requests after the first one."""
FOLDERS = Path(tempfile.gettempdir()) / "llmperf-footprint-configs"
_BITS = {"F32": 32, "F16": 16, "BF16": 16, "Q8_0": 8, "Q6_K": 8, "Q5_K_M": 8}
"""Of accelerate's nearest type; four bits for all others."""


@dataclass(frozen=True)
class Result:
    """One case: what was predicted and what was seen. Bytes, and tokens per second."""

    case: Case
    predicted: Interval
    peak: int
    decode_tps: float
    expected_tps: float | None
    weights: int
    cache: int
    path: str
    bandwidth: float | None
    """Of the probe before it, in bytes/s."""
    flops: float | None
    """Of the same, in operations/s."""

    @property
    def is_inside(self) -> bool:
        """Whether the interval holds what was seen."""
        return self.peak in self.predicted

    @property
    def width(self) -> float:
        """Of the interval, as a share of what was seen."""
        return (self.predicted.high - self.predicted.low) / self.peak

    @property
    def error(self) -> float:
        """Of the interval's middle."""
        return self.predicted.middle / self.peak - 1


def naive_bytes(case: Case) -> float:
    """By hidden sizes alone."""
    config = CONFIGS[case.model]
    hidden = config.get("hidden_size") or config["n_embd"]
    layers = config.get("num_hidden_layers") or config["n_layer"]
    tokens = case.options.get("n_ctx", (case.prompt_tokens + NEW_TOKENS) * case.batch)
    weights = 12 * layers * hidden**2 + 2 * config["vocab_size"] * hidden
    return float(weights * _bits(case) / 8 + 2 * layers * tokens * hidden * 2)


def _bits(case: Case) -> int:
    return 32 if case.options.get("dtype") == "float32" else _BITS.get(case.quantization, 4)


def take(pool: WorkerPool, case: Case) -> Result | None:
    """Measure one case; None, and why on stderr, where the engine refused it.

    The peak is the kernel's mark over the worker's whole life; the speed that of two requests
    after a first one.
    """
    spec = ModelSpec(case.source(FOLDERS), case.quantization)
    work = Workload(prompt_tokens=case.prompt_tokens, new_tokens=NEW_TOKENS, batch=case.batch)
    here = detect()
    try:
        asked = loading(spec, case.backend, case.options)
        with cpu_lease():
            probe = calibrate_cpu(here.cpu, here.memory)
            model = pool.fresh(asked, 0)
            speeds = send(model, work, _TIMED, lambda sample: sample.decode_tps)
            peak = figure_of(read_tree(model.worker.pid), "", None)
    except (WorkerError, ModelError) as error:
        print(f"{case.name}: {error}", file=sys.stderr)
        return None
    finally:
        pool.close()
    assert peak is not None
    assert asked.files is not None
    load = Load(
        context_tokens=case.prompt_tokens + NEW_TOKENS,
        prompt_tokens=case.prompt_tokens,
        sequences=case.batch,
        prompts=1 + _TIMED,
    )
    footprint = footprint_of(spec, asked.files, asked.options, (), load)
    assert footprint is not None
    bandwidth = None if isinstance(probe, str) else probe.bandwidth_best
    flops = None if isinstance(probe, str) else probe.flops_best
    return Result(
        case=case,
        predicted=footprint.total,
        peak=peak.bytes,
        decode_tps=statistics.median(speeds),
        expected_tps=_expected_tps(case, asked.files, load, bandwidth, flops),
        weights=asked.files.weight_bytes,
        cache=footprint.on("ram").cache,
        path=asked.files.path,
        bandwidth=bandwidth,
        flops=flops,
    )


def _expected_tps(
    case: Case, files: ModelFiles, load: Load, bandwidth: float | None, flops: float | None
) -> float | None:
    """Of one sequence; None where a prediction is not offered."""
    size = with_traffic(size_of_files(files), files)
    if load.sequences > 1 or size.traffic is None or "dtype" in case.options:
        return None
    part = Part(
        share=1.0,
        efficiency=efficiency_of(case.backend, "cpu", case.quantization),
        bandwidth=bandwidth,
        flops=flops,
    )
    depth = load.prompt_tokens + NEW_TOKENS // 2
    return expected_speed(size.traffic, [part], depth_tokens=depth, prompt_tokens=1).decode_tps


def accelerate_bytes() -> dict[str, int]:
    """Of each config in float32; empty where accelerate is not installed."""
    program = Path(__file__).with_name("footprint_others.py")
    done = subprocess.run(
        [sys.executable, str(program), str(FOLDERS)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"accelerate: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return {}
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def oracle_disagrees(result: Result) -> str | None:
    """Where llama.cpp itself says other sizes of tensors or cache; None: it agrees."""
    options = msgspec.convert(result.case.options, LlamaCppOptions)
    numbers = {kind.name.lower(): number for number, kind in GGML_TYPES.items()}
    asked = {
        "n_ctx": options.n_ctx,
        "n_seq_max": options.n_seq_max,
        "type_k": numbers[options.type_k],
        "type_v": numbers[options.type_v],
    }
    program = Path(__file__).with_name("llama_oracle.py")
    done = subprocess.run(
        [sys.executable, str(program), result.path, json.dumps(asked)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    cache = f"{result.cache / MIB:.2f}"
    said = f"{sum(told['cache_mib']):.2f}"
    if told["tensor_bytes"] != result.weights:
        return f"{result.case.name}: weights {result.weights}, llama.cpp {told['tensor_bytes']}"
    return None if cache == said else f"{result.case.name}: cache {cache}, llama.cpp {said} MiB"


def tell(
    benchmark: Benchmark, title: str, cases: Sequence[Case], others: dict[str, int]
) -> list[Result]:
    """Measure all cases, a line for each, and what all of them come to."""
    benchmark.note(title, f"{title}: {len(cases)} cases, MiB")
    benchmark.head("case:34", "peak:7", "predicted:12", "error:7", "accel.:8", "naive:7")
    results = []
    with tempfile.TemporaryDirectory(prefix="footprint-") as logs:
        for case in cases:
            found = take(WorkerPool(Path(logs)), case)
            if found is not None:
                results.append(found)
                _line(benchmark, found, others)
    inside = statistics.fmean(each.is_inside for each in results)
    error = statistics.median(abs(each.error) for each in results)
    widest = max(each.width for each in results)
    benchmark.note(
        f"{title}, all",
        f"inside the interval: {inside:.0%}; widest interval {widest:.0%} of the peak; median "
        f"error of the middle {error:.1%}",
    )
    benchmark.check(f"{title}: share inside the interval", inside, INSIDE)
    benchmark.check(f"{title}: widest interval", widest, WIDTH)
    benchmark.check(f"{title}: median error of the middle", error, MIDDLE)
    speeds = [
        each.expected_tps / each.decode_tps - 1 for each in results if each.expected_tps is not None
    ]
    if speeds:
        off = statistics.median(map(abs, speeds))
        benchmark.note(
            f"{title}, speed",
            f"decode speed of {len(speeds)} cases: median error {off:.0%}, "
            f"{min(speeds):+.0%} to {max(speeds):+.0%}",
        )
        benchmark.check(f"{title}: median error of decode speed", off, SPEED)
    return results


def _line(benchmark: Benchmark, each: Result, others: dict[str, int]) -> None:
    accelerate = others.get(each.case.model, 0) * _bits(each.case) / 32
    low, high = each.predicted.low / MIB, each.predicted.high / MIB
    benchmark.row(
        f"{'' if each.is_inside else '! '}{each.case.name}"[:33],
        f"{each.peak / MIB:.0f}",
        f"{low:.0f}–{high:.0f}",
        f"{each.error:+.1%}",
        f"{accelerate / each.peak - 1:+.0%}" if accelerate else "–",
        f"{naive_bytes(each.case) / each.peak - 1:+.0%}",
        case=each.case.name, backend=each.case.backend, peak=each.peak, low=each.predicted.low,
        high=each.predicted.high, decode_tps=each.decode_tps, expected_tps=each.expected_tps,
        bandwidth=each.bandwidth, flops=each.flops,
    )  # fmt: skip


def main() -> int:
    """Run the benchmark; the exit code."""
    parser = option_parser(__doc__)
    parser.add_argument("--drawn-only", action="store_true", help="leave the first table out")
    options: argparse.Namespace = parser.parse_args()
    benchmark = Benchmark(__doc__ or "", options)
    wanted = {"drawn by seed": drawn(6) if options.quick else drawn()}
    if not options.quick and not options.drawn_only:
        wanted = {"chosen by": FITTED, **wanted}
    for case in (case for cases in wanted.values() for case in cases):
        case.source(FOLDERS)
    others = accelerate_bytes()
    taken = [
        result
        for title, cases in wanted.items()
        for result in tell(benchmark, title, cases, others)
    ]
    llama = [each for each in taken if each.case.backend == "llama-cpp"]
    wrong = [text for each in llama if (text := oracle_disagrees(each)) is not None]
    benchmark.note(
        "oracle", f"llama.cpp's own sizes: {len(llama) - len(wrong)} of {len(llama)} agree"
    )
    for text in wrong:
        benchmark.note(text, text)
    benchmark.check("cases where llama.cpp says other sizes", len(wrong), Target(most=0))
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
