"""What does remembering cost, and looking back?

    python benchmarks/history.py [--quick] [--json FILE]

record: a session of 50 tests, each with one invocation of 2 metrics and 10 samples; from opening
the database to closing it, and the writing alone.

latest: the last 50 sessions of one test out of 1,000,000 invocations (quick: 50,000), samples and
verdicts included, each test asked in turn. The database is opened once; its file was just written,
so that the system still holds it in memory.
"""

from __future__ import annotations

import datetime
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from paired import Benchmark, Spread, Target, option_parser

from pytest_llmperf.gate import Verdict
from pytest_llmperf.history import History, Invocation, JudgedPair, SessionRecord, Value

TESTS, SAMPLES, LAST = 50, 10, 50
METRICS = ("decode_tps", "prefill_tps")
INVOCATIONS, INVOCATIONS_QUICK = 1_000_000, 50_000
BEGAN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
RECORD_S = Target(most=0.2)
LATEST_MS = Target(most=20.0)

_VALUES = random.Random(1)


def main() -> int:
    """Print the table; the exit code is 1 when a target is missed."""
    options = option_parser(__doc__).parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        benchmark.head("what:34", "median:10", "quartiles:20", "target:10")
        record(benchmark, Path(folder) / "record.sqlite3")
        latest(benchmark, Path(folder) / "latest.sqlite3")
    return benchmark.finish()


def record(benchmark: Benchmark, file: Path) -> None:
    """Time the recording of one session after the other."""
    opened, writing = [], []
    for number in range(25 if benchmark.quick else 100):
        session = _session(number)
        began = time.perf_counter()
        with History.open(f"sqlite:///{file}") as history:
            before = time.perf_counter()
            history.record(session)
            writing.append(time.perf_counter() - before)
        opened.append(time.perf_counter() - began)
    _tell(benchmark, f"open, record {TESTS} tests, close, s", opened, RECORD_S)
    _tell(benchmark, "the writing alone, s", writing)


def latest(benchmark: Benchmark, file: Path) -> None:
    """Time the question for each test, out of a large database."""
    count = INVOCATIONS_QUICK if benchmark.quick else INVOCATIONS
    began = time.perf_counter()
    _fill(file, count // TESTS)
    building_s = time.perf_counter() - began
    asked = []
    with History.open(f"sqlite:///{file}") as history:
        for number in _VALUES.sample(range(TESTS), TESTS) * 4:
            before = time.perf_counter()
            points = history.latest(_test(number), "measure", METRICS[0], LAST)
            asked.append((time.perf_counter() - before) * 1e3)
            if len(points) != LAST:
                raise RuntimeError(f"{len(points)} sessions of {_test(number)}, not {LAST}")
    _tell(benchmark, f"last {LAST} of {count:,} invocations, ms", asked, LATEST_MS)
    size_mib = file.stat().st_size / 2**20
    benchmark.note("database", f"{count:,} invocations: {size_mib:.0f} MiB in {building_s:.0f} s")


def _tell(
    benchmark: Benchmark, what: str, values: list[float], target: Target | None = None
) -> None:
    spread = Spread.of(values)
    benchmark.row(
        what,
        f"{spread.median:.4g}",
        f"{spread.low:.4g}–{spread.high:.4g}",
        "–" if target is None else str(target),
        what=what,
        values=values,
        spread=spread,
    )
    if target is not None:
        benchmark.check(what, spread.median, target)


def _test(number: int) -> str:
    return f"tests/performance/test_chat.py::test_answers_in_time[llama-1b-Q4_K_M-{number}]"


def _session(number: int) -> SessionRecord:
    tests = [_test(each) for each in range(TESTS)]
    return SessionRecord(
        id=f"session-{number}",
        started_at=BEGAN + number * datetime.timedelta(hours=1),
        wall_s=300.0,
        commit="0123456789abcdef0123456789abcdef01234567",
        fingerprint="x86_64-linux-amd-2c-avx512",
        machine="2 cores AMD EPYC, 23.5 GiB",
        pytest_version="9.2.0",
        plugin_version="0.1.0",
        exit_status=0,
        invocations=tuple(_invocation(test) for test in tests),
        verdicts=tuple(_judged(test, metric) for test in tests for metric in METRICS),
    )


def _invocation(test: str) -> Invocation:
    return Invocation(
        test=test,
        measure="measure",
        config="0123456789abcdef",
        backend="llama-cpp",
        engine_version="0.3.36",
        model="synthetic:llama-1b",
        quantization="Q4_K_M",
        number=0,
        wall_s=4.5,
        conditions={"page_faults": 0, "cpu_pressure": 0.5, "thermal_share": 0.0},
        values=tuple(_value(metric) for metric in METRICS),
    )


def _value(metric: str) -> Value:
    samples = tuple(_VALUES.gauss(50, 1) for _ in range(SAMPLES))
    return Value(
        metric=metric, unit="tok/s", median=50.0, low=49.0, high=51.0, n=SAMPLES, samples=samples
    )


def _judged(test: str, metric: str) -> JudgedPair:
    return JudgedPair(
        test=test,
        measure="measure",
        metric=metric,
        verdict=Verdict.PASSED,
        effect=0.0,
        low=-0.02,
        high=0.02,
        mde=0.04,
    )


def _fill(file: Path, sessions: int) -> None:
    """Copy one recorded session many times, in bulk; record() would take an hour."""
    with History.open(f"sqlite:///{file}") as history:
        history.record(_session(0))
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    for statement in _COPIES:
        connection.executemany(statement, _numbers(sessions))
    connection.commit()
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def _numbers(sessions: int) -> Iterator[dict[str, int]]:
    """What is added to the keys of the first session, for each of the others."""
    for number in range(1, sessions):
        yield {"session": number, "invocation": number * TESTS}


_COPIES = (
    """INSERT INTO session
        SELECT key + :session, 'copy-' || :session, started_at, wall_s, "commit", fingerprint,
            machine, pytest_version, plugin_version, exit_status FROM session WHERE key = 1""",
    f"""INSERT INTO invocation
        SELECT key + :invocation, session + :session, test, measure, config, backend,
            engine_version, model, quantization, number, wall_s, conditions
        FROM invocation WHERE key <= {TESTS}""",
    f"""INSERT INTO value
        SELECT invocation + :invocation, metric, median, low, high, n, unit
        FROM value WHERE invocation <= {TESTS}""",
    f"""INSERT INTO sample
        SELECT invocation + :invocation, metric, ordinal, value
        FROM sample WHERE invocation <= {TESTS}""",
    """INSERT INTO verdict (session, test, measure, metric, verdict, effect, low, high,
            mde, reasons)
        SELECT session + :session, test, measure, metric, verdict, effect, low, high, mde, reasons
        FROM verdict WHERE session = 1""",
)

if __name__ == "__main__":
    sys.exit(main())
