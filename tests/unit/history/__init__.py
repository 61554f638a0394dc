"""Sessions as a run would record them: how many rows they have is known."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from pytest_llmperf.gate import Verdict
from pytest_llmperf.history import Invocation, JudgedPair, SessionRecord, Value

NOON = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)
METRICS = {"decode_tps": "tok/s", "prefill_tps": "tok/s"}
SAMPLES = 10


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def value(metric: str = "decode_tps", median: float = 50.0) -> Value:
    return Value(
        metric=metric,
        unit=METRICS[metric],
        median=median,
        low=median - 1,
        high=median + 1,
        n=SAMPLES,
        samples=tuple(median + (ordinal - 4.5) / 5 for ordinal in range(SAMPLES)),
    )


def invocation(number: int = 0, median: float = 50.0, **others: Any) -> Invocation:
    facts: dict[str, Any] = {
        "test": "tests/test_speed.py::test_chat[0]",
        "measure": "measure",
        "config": "c0ffee",
        "backend": "llama-cpp",
        "engine_version": "0.3.36",
        "model": "synthetic:llama-160m",
        "quantization": "Q4_K_M",
        "number": number,
        "wall_s": 4.5,
        "conditions": {"page_faults": 3, "cpu": {"pressure": 0.25}},
        "values": tuple(value(metric, median) for metric in METRICS),
    }
    return Invocation(**facts | others)


def judged(
    metric: str | None = "decode_tps", verdict: Verdict = Verdict.PASSED, **others: Any
) -> JudgedPair:
    facts: dict[str, Any] = {
        "test": "tests/test_speed.py::test_chat[0]",
        "measure": "measure",
        "metric": metric,
        "verdict": verdict,
        "effect": -0.01,
        "low": -0.02,
        "high": 0.01,
        "mde": 0.04,
        "reasons": ("it is so",),
    }
    return JudgedPair(**facts | others)


def session(name: str = "first", **others: Any) -> SessionRecord:
    facts: dict[str, Any] = {
        "id": name,
        "started_at": NOON,
        "wall_s": 300.0,
        "commit": "0123abc",
        "fingerprint": "x86_64-2c",
        "machine": "2 cores AMD EPYC, 23.5 GiB",
        "pytest_version": "9.2.0",
        "plugin_version": "0.1.0",
        "exit_status": 0,
        "invocations": (invocation(),),
        "verdicts": (judged(),),
    }
    return SessionRecord(**facts | others)


def session_of(tests: int, name: str) -> SessionRecord:
    """One invocation with two metrics for each test, and one verdict for each metric."""
    names = [f"tests/test_speed.py::test_chat[{number}]" for number in range(tests)]
    return session(
        name,
        invocations=tuple(invocation(test=test) for test in names),
        verdicts=tuple(judged(metric, test=test) for test in names for metric in METRICS),
    )
