"""What does this package cost where it is not the thing being measured?

    python benchmarks/overhead.py [--quick] [--json FILE] [--part startup|decode|memory …]

startup: what an installed plugin that is not asked for anything adds to pytest on an empty suite.
One environment; every other plugin is switched off by name; all take turns, and each is compared
with the pytest without any of the same round.

decode: what watching memory and conditions costs a running decode. One worker with llama-160m
Q4_K_M answers requests by the order off, on, on, off. Watching happens between requests, and at
t_0 and t_1; what it costs inside a decode is all that counts.

memory: the resident memory of the pytest process over a run of 200 measuring tests of the fake
backend, read after each.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from paired import Benchmark, Spread, Target, compare, option_parser, take_turns
from worker_arm import TIMEOUT_S, loading

from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.instruments import Instruments
from pytest_llmperf.measure.observer import Observer
from pytest_llmperf.measure.requests import Requests
from pytest_llmperf.measure.timeline import read_sample
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.pool import WorkerPool

PLUGINS = {
    "pytest alone": (),
    "pytest-llmperf": ("llmperf",),
    "pytest-benchmark": ("benchmark",),
    "pytest-xdist": ("xdist", "xdist.looponfail"),
}
"""Entry points that each arm leaves switched on."""
ADDED_MS = Target(most=5.0)
WATCHING = Target(least=0.995)
TESTS, SETTLED = 200, 20
GROWTH_KIB = Target(most=4.0)
"""Per test, above the size of its result in JSON, which has to be kept until the end of the run."""

_SUITE = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_it(load_model, measure, number):
    measure(load_model("fake:model", backend="fake"), prompt_tokens=16, new_tokens=16)
"""
_CONFTEST = """
import json, re

seen = []

def pytest_runtest_logfinish():
    with open("/proc/self/status") as status:
        seen.append(int(re.search(r"VmRSS:\\s+(\\d+)", status.read())[1]))

def pytest_sessionfinish():
    with open("seen.json", "w") as file:
        json.dump(seen, file)
"""


_BYTECODE = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"})


class Cost(msgspec.Struct, frozen=True):
    """Of one process, in milliseconds."""

    wall_ms: float
    cpu_ms: float


def startup(benchmark: Benchmark) -> None:
    """Time pytest on an empty suite with one plugin after the other."""
    installed = {each.name for each in importlib.metadata.entry_points(group="pytest11")}
    arms: dict[str, Callable[[int], Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        for label, wanted in PLUGINS.items():
            if set(wanted) <= installed:
                arms[label] = _pytest(Path(folder), sorted(installed - set(wanted)))
            else:
                print(f"{label} is not installed here, so nothing is said of it")
        take_turns(1, list(arms.values()))
        turns = take_turns(15 if benchmark.quick else 60, list(arms.values()))
    benchmark.head("empty suite:22", "wall ms:9", "added ms:22", "added CPU ms:15", "target:9")
    alone = turns[0]
    for label, costs in zip(arms, turns, strict=True):
        wall_ms = statistics.median(cost.wall_ms for cost in costs)
        pairs = list(zip(costs, alone, strict=True))
        added = Spread.of([cost.wall_ms - base.wall_ms for cost, base in pairs])
        cpu = Spread.of([cost.cpu_ms - base.cpu_ms for cost, base in pairs])
        is_ours, is_base = label == "pytest-llmperf", costs is alone
        benchmark.row(
            label,
            f"{wall_ms:.0f}",
            "–" if is_base else added.text(".1f"),
            "–" if is_base else f"{cpu.median:.1f}",
            str(ADDED_MS) if is_ours else "–",
            part="startup",
            plugin=label,
            costs=costs,
            added_ms=added,
            added_cpu_ms=cpu,
        )
        if is_ours:
            benchmark.check("added to an empty suite, ms", round(added.median, 2), ADDED_MS)


def _pytest(folder: Path, blocked: list[str]) -> Callable[[int], Cost]:
    switches = [part for name in blocked for part in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *switches]
    # As for a user: compiled modules are kept. The untimed first round writes them, all in one
    # place, so that neither an environment without bytecode nor an editable install counts.
    variables = {name: value for name, value in os.environ.items() if name not in _BYTECODE}
    variables["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")

    def arm(_: int) -> Cost:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, check=False)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 5:  # no tests
            raise RuntimeError(f"pytest left with {done.returncode}:\n{done.stdout.decode()}")
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Cost(seconds * 1e3, cpu_s * 1e3)

    return arm


def decode(benchmark: Benchmark) -> None:
    """Time single requests to one worker, watched and not watched in turns."""
    workload = Workload(prompt_tokens=32, new_tokens=128)
    options = {"n_ctx": workload.total_tokens}
    what = loading(ModelSpec("synthetic:llama-160m", "Q4_K_M"), "llama-cpp", options)
    instruments = Instruments(detect())
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        pool = WorkerPool(Path(folder))
        try:
            model = pool.fresh(what, 0)
            requests = Requests(model, workload, TIMEOUT_S)
            watched, unwatched = (
                Observer(model, instruments, requests, watch=watch) for watch in (True, False)
            )

            def tps(observer: Observer) -> float:
                answer = observer.take("request")
                sample = read_sample(answer, workload.prompt_tokens, workload.new_tokens)
                assert sample.decode_tps is not None
                return sample.decode_tps

            compare(2, lambda _: tps(unwatched), lambda _: tps(watched))
            pairs = 20 if benchmark.quick else 200
            seen = compare(pairs, lambda _: tps(unwatched), lambda _: tps(watched))
        finally:
            pool.close()
    off, on = seen.medians
    ratio = Spread.of([b / a for a, b in zip(seen.ours, seen.theirs, strict=True)])
    benchmark.head("decode:24", "off tok/s:11", "on tok/s:10", "on ÷ off:24", "target:9")
    benchmark.row(
        "llama-160m Q4_K_M",
        f"{off:.1f}",
        f"{on:.1f}",
        ratio.text(".4f"),
        str(WATCHING),
        part="decode",
        off=seen.ours,
        on=seen.theirs,
        ratio=ratio,
    )
    benchmark.check("watched ÷ unwatched decode", round(ratio.median, 4), WATCHING)


def memory(benchmark: Benchmark) -> None:
    """Run the tests in a pytest of their own."""
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        place = Path(folder)
        (place / "test_many.py").write_text(_SUITE)
        (place / "conftest.py").write_text(_CONFTEST)
        (place / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-q", "--llmperf", "--llmperf-json=result.json"]
        done = subprocess.run(command, cwd=place, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"pytest left with {done.returncode}:\n{done.stdout.decode()[-4000:]}"
            )
        seen_kib: list[int] = json.loads((place / "seen.json").read_text())
        result_kib = (place / "result.json").stat().st_size / 1024 / TESTS
    numbers = range(SETTLED, TESTS)
    slope_kib, _ = statistics.linear_regression(list(numbers), [seen_kib[i] for i in numbers])
    early, late = seen_kib[SETTLED - 1] / 1024, seen_kib[-1] / 1024
    above_kib = slope_kib - result_kib
    benchmark.head(
        "pytest's memory:20",
        "MiB then:10",
        "MiB at end:12",
        "KiB/test:11",
        "result:9",
        "above it:10",
        "target:8",
    )
    benchmark.row(
        f"tests {SETTLED} to {TESTS}",
        f"{early:.1f}",
        f"{late:.1f}",
        f"{slope_kib:.1f}",
        f"{result_kib:.1f}",
        f"{above_kib:.1f}",
        str(GROWTH_KIB),
        part="memory",
        rss_kib=seen_kib,
        slope_kib=slope_kib,
        result_kib=result_kib,
    )
    benchmark.check("growth per test above its result, KiB", round(above_kib, 1), GROWTH_KIB)


PARTS = {"startup": startup, "decode": decode, "memory": memory}


def main() -> int:
    """Print a table for each part; the exit code is 1 when a target is missed."""
    parser = option_parser(__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; repeatable")
    options = parser.parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    for name in options.part or PARTS:
        PARTS[name](benchmark)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
