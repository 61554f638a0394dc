"""How long does it take to read the baselines of a large suite, and to change one of them?

    python benchmarks/baselines.py [--quick] [--json FILE]

1,000 tests of two metrics each with 20 sessions: 40,000 session lines in 50 modules, which a run
reads before its first test is judged. Every reading begins with the files alone; they come from
the page cache, as they do after a checkout.
"""

from __future__ import annotations

import datetime
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from paired import Benchmark, Spread, Target, option_parser

from pytest_llmperf.gate.baseline import EpochLine, Line, PairKey, SessionLine
from pytest_llmperf.gate.baseline_file import BaselineStore

MODULES, TESTS, SESSIONS = 50, 20, 20
METRICS = ("decode_tps", "prefill_tps")
READ_S = Target(most=0.3)
BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CONFIG = "llama-cpp synthetic:tinyllama-1.1b Q4_K_M 512+128"


def session_line(key: PairKey, number: int) -> SessionLine:
    """One session, with everything that a real one has."""
    noise = random.Random(f"{key.text} {number}")
    return SessionLine(
        key=key,
        epoch=0,
        session=f"2026-01-{number:02d}-{noise.randrange(16**8):08x}",
        date=BEGIN + datetime.timedelta(days=number),
        commit=f"{noise.randrange(16**12):012x}",
        value=noise.gauss(20, 0.2),
        log_value=noise.gauss(3, 0.01),
        spread=noise.uniform(0.005, 0.02),
        n=10,
        log_probe=noise.gauss(23.7, 0.01),
        probe_cv=noise.uniform(0.002, 0.01),
        conditions={"cpu_pressure": noise.random(), "major_faults": float(noise.randrange(9))},
        software={"llama-cpp": "0.3.36"},
    )


def lines_of_a_module() -> Iterator[Line]:
    """An acceptance and its sessions for each pair."""
    for test in range(TESTS):
        for metric in METRICS:
            key = PairKey(f"test_chat_model[{test}]", "1", metric, CONFIG)
            yield EpochLine(
                key=key,
                epoch=0,
                date=BEGIN,
                accepted_by="benchmark",
                reason="first baseline",
                commit=None,
                old=None,
                new=20.0,
            )
            yield from (session_line(key, number) for number in range(SESSIONS))


def main() -> int:
    """Print both times; the exit code is 1 when the target is missed."""
    options = option_parser(__doc__).parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        store = BaselineStore(Path(folder), "linux-x86_64-benchmark")
        lines = list(lines_of_a_module())
        modules = [f"tests/perf/test_{number}.py" for number in range(MODULES)]
        for module in modules:
            store.update(module, lines)
        sizes = [store.path(module).stat().st_size for module in modules]
        rounds = 7 if benchmark.quick else 40
        reading_s = [_reading_s(folder, modules) for _ in range(rounds)]
        updating_s = [_updating_s(store, modules[0], number) for number in range(rounds)]
    benchmark.head("what:44", "seconds:26", "target:9")
    read, update = Spread.of(reading_s), Spread.of(updating_s)
    count = MODULES * TESTS * len(METRICS) * SESSIONS
    label = f"read {count:,} sessions, {sum(sizes) / 1e6:.1f} MB"
    benchmark.row(label, read.text(".3f"), str(READ_S), part="read", seconds=reading_s)
    label = f"record one session beside {sizes[0] / 1e3:.0f} kB"
    benchmark.row(label, update.text(".4f"), "–", part="update", seconds=updating_s)
    benchmark.check("reading, s", read.median, READ_S)
    return benchmark.finish()


def _reading_s(folder: str, modules: list[str]) -> float:
    store = BaselineStore(Path(folder), "linux-x86_64-benchmark")
    began = time.perf_counter()
    read = [store.read(module) for module in modules]
    seconds = time.perf_counter() - began
    sessions = sum(len(pair.sessions) for each in read for pair in each.pairs.values())
    if sessions != MODULES * TESTS * len(METRICS) * SESSIONS:
        raise RuntimeError(f"{sessions} sessions were read")
    return seconds


def _updating_s(store: BaselineStore, module: str, number: int) -> float:
    key = PairKey("test_chat_model[7]", "1", METRICS[0], CONFIG)
    line = session_line(key, SESSIONS + number)
    began = time.perf_counter()
    store.update(module, [line])
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
