"""How repeatable is the probe of the memory bandwidth, and how near to it does llama.cpp decode?

    python benchmarks/roofline.py [--quick] [--rounds N] [--json FILE]

Every round is a probe in a fresh process, then one request to llama.cpp for tinyllama-1.1b Q8_0,
whose decode has to read 1.1 GB per token. The model stays loaded, and idle, during the probes.
``mbu`` and ``mfu`` are those of the round against the best probe of the whole run.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import llama_cpp
import msgspec
from paired import Benchmark, Spread, Target, option_parser

from pytest_llmperf.backends import Engine, Timeline, find_backend
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.hardware import Hardware, memory
from pytest_llmperf.hardware.calibration import Calibration, calibrate_cpu
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure.roofline import MOST, Roofline, place
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.models.traffic import traffic_of

MODEL = ModelSpec("synthetic:tinyllama-1.1b", "Q8_0")
WORKLOAD = Workload(prompt_tokens=256, new_tokens=49)
LONGEST_S = 2.0
_SILENT = llama_cpp.llama_log_callback(lambda *_: None)


class Round(msgspec.Struct, frozen=True):
    """A probe, and the request that followed it."""

    probe: Calibration
    sample: Sample


def request(engine: Engine, number: int) -> Sample:
    """One request, timed as the worker does."""
    timeline = Timeline(WORKLOAD.new_tokens)
    engine.generate(WORKLOAD.request(number, engine.facts().vocab_size), timeline)
    instants = [timeline.started_ns, *timeline.instants_ns]
    return Sample(
        prompt_tokens=WORKLOAD.prompt_tokens,
        new_tokens=WORKLOAD.new_tokens,
        ttft_s=(instants[1] - instants[0]) / 1e9,
        e2e_s=(instants[-1] - instants[0]) / 1e9,
        whole_s=(instants[-1] - instants[0]) / 1e9,
        gaps_s=[(b - a) / 1e9 for a, b in pairwise(instants[1:])],
    )


def take(count: int, hardware: Hardware, engine: Engine) -> list[Round]:
    """Probe and ask in turns. Raises RuntimeError when the machine cannot be probed."""
    request(engine, 0)
    rounds = []
    for number in range(1, 1 + count):
        probe = calibrate_cpu(hardware.cpu, memory.from_linux(Path("/"))[0])
        if isinstance(probe, str):
            raise RuntimeError(probe)
        rounds.append(Round(probe, request(engine, number)))
    return rounds


def show(benchmark: Benchmark, rounds: list[Round], judge: Callable[..., Roofline]) -> None:
    """One line for each round."""
    benchmark.head(
        "round:6", "best GB/s:11", "median:8", "quartiles:13", "GFLOP/s:9", "wall s:8",
        "tok/s:7", "mbu:6", "mfu:6",
    )  # fmt: skip
    for number, each in enumerate(rounds, 1):
        found, probe, speed = judge([each.sample]), each.probe, each.sample.decode_tps or 0.0
        benchmark.row(
            str(number),
            f"{probe.bandwidth_best / 1e9:.1f}",
            f"{probe.bandwidth_median / 1e9:.1f}",
            f"{probe.bandwidth_low / 1e9:.1f}–{probe.bandwidth_high / 1e9:.1f}",
            f"{(probe.flops_best or 0) / 1e9:.0f}",
            f"{probe.wall_s:.2f}",
            f"{speed:.1f}",
            "–" if found.mbu is None else f"{found.mbu:.2f}",
            "–" if found.mfu is None else f"{found.mfu:.2f}",
            probe=probe,
            decode_tps=speed,
            prefill_tps=each.sample.prefill_tps,
            mbu=found.mbu,
            mfu=found.mfu,
        )


def conclude(benchmark: Benchmark, rounds: list[Round], whole: Roofline) -> None:
    """How repeatable the probes were, and what the arithmetic of all rounds says."""
    probes = [each.probe for each in rounds]
    for name, unit, values in (
        ("best", "GB/s", [each.bandwidth_best for each in probes]),
        ("median", "GB/s", [each.bandwidth_median for each in probes]),
        ("matmul", "GFLOP/s", [each.flops_best or 0.0 for each in probes]),
    ):
        spread = Spread.of([value / 1e9 for value in values]).text(".1f")
        varies = statistics.stdev(values) / statistics.fmean(values)
        benchmark.note(name, f"{name}: {spread} {unit}, coefficient of variation {varies:.1%}")
    for name, ratio, arithmetic in (
        ("mbu", whole.mbu, whole.arithmetic),
        ("mfu", whole.mfu, whole.mfu_arithmetic),
    ):
        told = whole.absent[name] if ratio is None else f"{ratio:.2f}: {arithmetic}"
        benchmark.note(name, f"{name} {told}")
    for finding in whole.findings:
        print(f"note: {finding}")
    longest_s = max(each.wall_s for each in probes)
    benchmark.check("longest probe, in s", longest_s, Target(most=LONGEST_S))
    benchmark.check("mbu", math.inf if whole.mbu is None else whole.mbu, Target(most=MOST))


def main() -> int:
    """Print the table."""
    parser = option_parser(__doc__)
    parser.add_argument("--rounds", type=int, help="default 10, with --quick 4")
    options = parser.parse_args()
    benchmark = Benchmark(__doc__ or "", options)
    here = detect()
    files = resolve(MODEL, "gguf")
    backend = find_backend("llama-cpp")
    backend.import_engine()
    engine = backend.load(files, LlamaCppOptions(n_ctx=1024, n_threads=here.cpu.usable_cores), 0)
    llama_cpp.llama_log_set(_SILENT, None)
    rounds = take(options.rounds or (4 if benchmark.quick else 10), here, engine)
    benchmark.note("probe", f"probe: {rounds[0].probe.how}")
    probes = [each.probe for each in rounds]
    traffic, facts = traffic_of(files), engine.facts()

    def judge(samples: Sequence[Sample]) -> Roofline:
        return place(traffic, facts, WORKLOAD, samples, probes)

    show(benchmark, rounds, judge)
    conclude(benchmark, rounds, judge([each.sample for each in rounds]))
    engine.close()
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
