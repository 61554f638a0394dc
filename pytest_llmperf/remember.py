"""What of a run does the history keep? Everything that was measured and judged.

It is for trends: a history that cannot be written is told, and no verdict depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from pytest_llmperf.gate.pair import key_of, split_nodeid
from pytest_llmperf.gate.recording import Accepted, Act
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report import words
from pytest_llmperf.report.result import JudgedMeasurement, RunResult

if TYPE_CHECKING:
    from pytest_llmperf import history

OFF = "off"


def remember(
    url: str | None,
    result: RunResult,
    act: Act,
    accepted: list[Accepted],
    *,
    wall_s: float,
    exit_status: int,
) -> str | None:
    """Write one session; why it could not be written, or None.

    ``url``: as SQLAlchemy takes it; None: a file in the user's state directory.
    """
    # Not at the top: this imports SQLAlchemy, which takes longer than the whole plugin.
    from pytest_llmperf import history

    record = history.SessionRecord(
        id=act.session,
        started_at=act.date,
        wall_s=wall_s,
        commit=act.commit,
        fingerprint=result.hardware.fingerprint,
        machine=words.machine(result.hardware),
        pytest_version=pytest.__version__,
        plugin_version=result.llmperf,
        exit_status=exit_status,
        invocations=tuple(
            _invocation(test.test, number, seen)
            for test in result.tests
            for judged in test.measurements
            for number, seen in enumerate([judged.measurement, *judged.second_look])
        ),
        verdicts=tuple(
            verdict
            for test in result.tests
            for judged in test.measurements
            for verdict in _verdicts(test.test, judged)
        ),
    )
    try:
        with history.History.open(url) as kept:
            kept.record(record, [history.Acceptance.of(each) for each in accepted])
    except history.HistoryError as error:
        return str(error).removeprefix("history ")  # who tells it says so
    return None


def _invocation(test: str, number: int, seen: Measurement) -> history.Invocation:
    from pytest_llmperf import history

    conditions = {} if seen.conditions is None else msgspec.to_builtins(seen.conditions)
    return history.Invocation(
        test=test,
        measure=seen.name,
        config=key_of(split_nodeid(test)[1], seen, "").config,
        backend=seen.backend,
        engine_version=seen.version,
        model=seen.spec.source,
        quantization=seen.files.quantization if seen.files else seen.spec.quantization,
        number=number,
        wall_s=seen.wall_s,
        conditions=conditions,
        values=tuple(history.Value.of(name, each) for name, each in seen.metrics.items()),
    )


def _verdicts(test: str, judged: JudgedMeasurement) -> list[history.JudgedPair]:
    from pytest_llmperf import history

    name = judged.measurement.name
    whole = history.JudgedPair(
        test=test, measure=name, metric=None, verdict=judged.verdict, reasons=tuple(judged.reasons)
    )
    return [
        whole,
        *(
            history.JudgedPair(
                test=test,
                measure=name,
                metric=pair.key.metric,
                verdict=pair.verdict,
                effect=pair.judgement.effect,
                low=pair.judgement.low,
                high=pair.judgement.high,
                mde=pair.judgement.mde,
                reasons=pair.judgement.reasons,
            )
            for pair in judged.pairs
            if pair.is_gated
        ),
    ]
