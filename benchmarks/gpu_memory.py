"""What does a model take of an NVIDIA card, how is that known, and what does looking cost?

    python benchmarks/gpu_memory.py [--quick] [--pairs N] [--json FILE]

The first table holds every model's figures side by side: the peak of torch's allocator, what NVML
counts for the worker, what the card holds more than before the worker was started, and the `vram`
that is made of them; with the share of the card's memory bandwidth that decode at batch 1 reaches.
Models in 8 and 4 bits take part where bitsandbytes and accelerate are installed. All of it comes
from the fixtures that tests use. The second table is the cost of watching: decode with a watch that
reads the card before and after each request, against decode without one, in the order off on on
off. Without an NVIDIA GPU there is nothing to do.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from paired import Benchmark, Target, compare, option_parser
from worker_arm import TIMEOUT_S, loading

from pytest_llmperf.hardware import nvidia
from pytest_llmperf.hardware.gpu_watch import GpuWatch
from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.requests import Requests
from pytest_llmperf.measure.timeline import read_sample
from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool

COST = Target(least=0.995)
READING_MS = Target(most=1.0)
WORKLOAD = Workload(prompt_tokens=64, new_tokens=128)
REPEATS = 3
GIB = 2**30

TEST = """
from pathlib import Path
import msgspec

def test_it(load_model, measure):
    model = load_model({source!r}, backend="transformers", quantization={quantization!r})
    seen = measure(model, prompt_tokens=512, new_tokens=128)
    facts = {{"devices": seen.devices, "metrics": seen.metrics, "absent": seen.absent,
              "findings": seen.findings, "weights": model.files.weight_bytes}}
    Path({out!r}).write_bytes(msgspec.json.encode(facts))
"""

QUANTIZE = """
import sys, torch, transformers
source, target, bits = sys.argv[1:]
config = transformers.BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
model = transformers.AutoModelForCausalLM.from_pretrained(
    source, quantization_config=config, dtype=torch.bfloat16)
model.save_pretrained(target)
"""


def main() -> int:
    """Print the tables."""
    parser = option_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="pairs for the cost of watching")
    options = parser.parse_args()
    if not any(not card.integrated for card in nvidia.look().accelerators):
        print("no NVIDIA GPU with memory of its own here: nothing to measure")
        return 0
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    name = "llama-160m" if options.quick else "tinyllama-1.1b"
    with tempfile.TemporaryDirectory() as folder:
        memory(benchmark, name, Path(folder))
        watching(benchmark, name, Path(folder), 4 if options.quick else options.pairs)
    return benchmark.finish()


def memory(benchmark: Benchmark, name: str, folder: Path) -> None:
    """The first table."""
    benchmark.head(
        "GiB:16", "files:7", "alloc.:8", "reserv.:9", "NVML:7", "diff.:7", "vram:7",
        "kind:9", "mbu:6",
    )  # fmt: skip
    source = f"synthetic:{name}"
    one_model(benchmark, f"{name} BF16", source, "BF16", folder)
    needed = ("bitsandbytes", "accelerate")
    lacking = [each for each in needed if importlib.util.find_spec(each) is None]
    if lacking:
        benchmark.note("left out", f"8 and 4 bits: {' and '.join(lacking)} not installed")
        return
    plain = resolve(ModelSpec(source, "BF16"), "hf").path
    for bits in ("8", "4"):
        target = str(folder / f"{bits}-bit")
        subprocess.run([sys.executable, "-c", QUANTIZE, plain, target, bits], check=True)
        one_model(benchmark, f"bitsandbytes {bits}", target, None, folder)


def one_model(
    benchmark: Benchmark, title: str, source: str, quantization: str | None, folder: Path
) -> None:
    """One row, measured by a test of its own."""
    out, test = folder / "seen.json", folder / "test_it.py"
    test.write_text(TEST.format(source=source, quantization=quantization, out=str(out)))
    command = [sys.executable, "-m", "pytest", "--llmperf", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(test)], check=False, cwd=folder, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"{title} could not be measured:\n{done.stdout[-4000:]}")
    seen: dict[str, Any] = msgspec.json.decode(out.read_bytes())
    for number, card in enumerate(seen["devices"]):
        vram = card["vram"] or {}
        figures = (
            seen["weights"],
            (card["allocated"] or {}).get("bytes"),
            (card["reserved"] or {}).get("bytes"),
            card["worker_bytes"],
            card["difference_bytes"],
            vram.get("bytes"),
        )
        mbu = seen["metrics"].get("mbu")
        benchmark.row(
            title if number == 0 else f"  {card['device']}",
            *(in_gib(figure) for figure in figures),
            vram.get("kind", "–"),
            "–" if mbu is None else f"{mbu['median']:.2f}",
            model=title,
            **seen,
        )
    if "mbu" in seen["absent"]:
        benchmark.note(f"{title}: no mbu", seen["absent"]["mbu"])


def in_gib(figure: int | None) -> str:
    """``1.23``; a dash for what is not known."""
    return "–" if figure is None else f"{figure / GIB:.2f}"


def watching(benchmark: Benchmark, name: str, folder: Path, pairs: int) -> None:
    """The second table: every arm is REPEATS requests to the same worker."""
    what = loading(ModelSpec(f"synthetic:{name}", "BF16"), "transformers", {"device": "cuda"})
    pool = WorkerPool(folder)
    try:
        model = pool.load(what)
        decode_tps(model, None)
        readings_ms: list[float] = []
        seen = compare(
            pairs, lambda _: watched(model, readings_ms), lambda _: decode_tps(model, None)
        )
    finally:
        pool.close()
    with_watch, without = seen.medians
    benchmark.head("decode:24", "watched tok/s:15", "alone tok/s:13", "ratio:22", "ms/look:6")
    look_ms = statistics.median(readings_ms)
    benchmark.row(
        f"{name} BF16",
        f"{with_watch:.1f}",
        f"{without:.1f}",
        seen.ratio.text(".3f"),
        f"{look_ms:.2f}",
        watched=seen.ours,
        alone=seen.theirs,
        readings_ms=readings_ms,
    )
    benchmark.check("decode while watched ÷ alone", seen.ratio.median, COST)
    benchmark.check("one look at the GPUs, ms", look_ms, READING_MS)


def watched(model: LoadedModel, readings_ms: list[float]) -> float:
    """Decode speed with a watch; the time of each of its readings goes into ``readings_ms``."""
    watch = GpuWatch.start()
    try:
        watch.read()  # the first one waits for the driver
        return decode_tps(model, watch, readings_ms)
    finally:
        watch.close()


def decode_tps(
    model: LoadedModel, watch: GpuWatch | None, readings_ms: list[float] | None = None
) -> float:
    """Median over REPEATS requests, in tokens/s."""

    def look() -> None:
        if watch is None:
            return
        began = time.perf_counter()
        if watch.read() is None:
            raise SystemExit(watch.trouble)
        assert readings_ms is not None
        readings_ms.append((time.perf_counter() - began) * 1e3)

    requests = Requests(model, WORKLOAD, TIMEOUT_S)
    speeds = []
    for number in range(REPEATS):
        look()
        answer = requests.send(f"request {number}")
        look()
        sample = read_sample(answer, WORKLOAD.prompt_tokens, WORKLOAD.new_tokens)
        assert sample.decode_tps is not None
        speeds.append(sample.decode_tps)
    return statistics.median(speeds)


if __name__ == "__main__":
    sys.exit(main())
