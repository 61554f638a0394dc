"""What does a run come to? The one result that every report is made from, and its file form.

The JSON file is this module's ``RunResult``; its schema is docs/result.schema.json. A field is
only ever added within one version; whoever reads must ignore what it does not know.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_llmperf.gate.contract import Contract
from pytest_llmperf.gate.verdict import Verdict, worst
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement

FORMAT = "pytest-llmperf-result"
VERSION = 2


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """One budget against one measurement, in the metric's unit."""

    keyword: str
    metric: str
    percentile: int | None
    limit: float
    verdict: Verdict
    measured: float | None
    confirmed: float | None
    decided: float | None


class JudgedMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement and what became of it."""

    verdict: Verdict
    measurement: Measurement
    confirmation: Measurement | None
    """The same in a fresh worker, when a value was near its limit."""
    checks: list[CheckResult]
    reasons: list[str]


class JudgedTest(msgspec.Struct, frozen=True, kw_only=True):
    """One test that uses llmperf's fixtures."""

    test: str
    """Its pytest node id."""
    outcome: str
    """pytest's own: passed, failed, skipped, error."""
    verdict: Verdict | None
    """The worst of its measurements; None when nothing was measured."""
    measurements: list[JudgedMeasurement]
    reason: str | None = None
    """Why it was skipped, or the first line of why it failed."""


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One pytest run."""

    format: str
    version: int
    created: str
    """UTC, ISO 8601."""
    llmperf: str
    """Version of pytest-llmperf."""
    strict: bool
    hardware: Hardware
    tests: list[JudgedTest]
    notes: list[str]
    """What went wrong beside the tests, such as an engine that crashed on leaving."""


def judged(
    measurement: Measurement, confirmation: Measurement | None, contract: Contract
) -> JudgedMeasurement:
    """Put a measurement and its contract together."""
    return JudgedMeasurement(
        verdict=contract.verdict,
        measurement=measurement,
        confirmation=confirmation,
        checks=[
            CheckResult(
                keyword=check.budget.keyword.keyword,
                metric=check.budget.keyword.metric.name,
                percentile=check.budget.keyword.percentile,
                limit=check.budget.limit,
                verdict=check.verdict,
                measured=check.measured,
                confirmed=check.confirmed,
                decided=check.decided,
            )
            for check in contract.checks
        ],
        reasons=list(contract.reasons),
    )


def overall(measurements: list[JudgedMeasurement]) -> Verdict | None:
    """The worst verdict of a test's measurements; None without any."""
    return worst([each.verdict for each in measurements]) if measurements else None


def write_json(result: RunResult, path: Path) -> None:
    """Write the result beside ``path`` and rename it there, so that no reader sees half a file.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def schema() -> dict[str, object]:
    """JSON Schema of the file."""
    return msgspec.json.schema(RunResult)
