"""What does a run come to? The one result that every report is made from, and its file form.

The JSON file is this module's ``RunResult``; its schema is docs/result.schema.json. A field is
only ever added within one version; whoever reads must ignore what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from pytest_llmperf.gate.contract import Contract
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict, worst
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report.layout import laid_out

FORMAT = "pytest-llmperf-result"
VERSION = 2

Parameter = int | float | str | bool | None


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
    second_look: list[Measurement]
    """The same in fresh workers, when a value was near its limit or suspect; the first of them
    confirms budgets."""
    second_look_s: float = 0.0
    """What it took on the wall clock, starts and loads included."""
    checks: list[CheckResult]
    pairs: list[PairResult]
    """Each metric that is compared with earlier sessions."""
    reasons: list[str]

    def value(self, metric: str) -> float | None:
        """What was judged: of several processes theirs together, else the first one's median."""
        of_all = (
            pair.value
            for pair in self.pairs
            if pair.key.metric == metric and pair.is_gated and len(pair.looks) > 1
        )
        quantity = self.measurement.metrics.get(metric)
        return next(of_all, None if quantity is None else quantity.median)


class RatioCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One limit on the ratio of two arms."""

    text: str
    """As the user wrote it."""
    verdict: Verdict
    reason: str
    """Why it could not be decided; empty where it was."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two arms that were measured in turns, and what became of the limits on their ratio."""

    name: str
    metric: str
    label_a: str
    label_b: str
    ratio: float | None
    """A's share of B's speed: 1.2 is 20 % faster; None: nothing valid was measured."""
    low: float | None
    high: float | None
    """Ends of its interval of 95 %."""
    pairs: int
    memory_ratio: float | None
    """A's share of B's memory."""
    memory_low: float | None = None
    memory_high: float | None = None
    """Ends of its interval of 95 %, by the pairs."""
    perplexity_ratio: float | None = None
    """A's share of B's perplexity; None: they read no text, or not the same."""
    perplexity_low: float | None = None
    perplexity_high: float | None = None
    """Ends of its interval of 95 %, by the windows that both read; 0 and none of a single one."""
    perplexity_unknown: str | None = None
    """Why arms that read a text have no ratio of perplexity."""
    verdict: Verdict | None
    """None: there was no limit."""
    checks: list[RatioCheck]
    invalid: str | None
    a: list[Measurement]
    b: list[Measurement]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a test of an acceptance suite is about."""

    text: str
    instead: str = ""
    """What is true, where the claim is not and the test shows so."""


class JudgedTest(msgspec.Struct, frozen=True, kw_only=True):
    """One test that uses llmperf's fixtures, or that stands for a claim."""

    test: str
    """Its pytest node id."""
    line: int | None = None
    """On which it begins in its file, the first being 1; None: not known."""
    file: str | None = None
    """That file, seen from the top of the checkout; None: it lies elsewhere."""
    outcome: str
    """pytest's own: passed, failed, skipped, error."""
    parameters: dict[str, Parameter] = {}
    """What it was parametrized with; a value that is neither number nor text by its ``repr``."""
    claim: Claim | None = None
    """Of an acceptance suite."""
    told: dict[str, str] = {}
    """What it recorded by ``record_property``."""
    verdict: Verdict | None
    """The worst of its measurements; None when nothing was measured."""
    measurements: list[JudgedMeasurement]
    comparisons: list[Comparison] = []
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
    suite_shifts: list[SuiteShift] = []
    """All pairs together, one verdict for each fingerprint that was measured."""
    notes: list[str]
    """What went wrong beside the tests, such as an engine that crashed on leaving."""
    interrupted: bool = False
    """Whether the run ended before all of its tests had run."""
    selected: int | None = None
    """How many tests there were to run; None: not known."""
    exit_status: int | None = None
    """pytest's, as it was when this was written; None: not known."""


def judged(
    measurement: Measurement,
    second_look: list[Measurement],
    contract: Contract,
    pairs: list[PairResult],
    *,
    unread: str | None = None,
) -> JudgedMeasurement:
    """Put a measurement, its contract and its comparisons with the baseline together.

    ``unread``: why its baseline could not be read.
    """
    gated = [pair for pair in pairs if pair.is_gated]
    reasons = [*contract.reasons, *_reasons(gated)]
    verdicts = [pair.verdict for pair in gated]
    if contract.verdict is not None:
        verdicts.append(contract.verdict)
    if unread is not None:
        verdicts.append(Verdict.INCONCLUSIVE)
        reasons.append(unread)
    broken = [each.invalid for each in second_look if each.invalid]
    if broken:
        verdicts, reasons = [Verdict.INVALID], broken
    elif not verdicts:
        verdicts.append(Verdict.NO_BASELINE)
        reasons.append("no budget and no baseline: measured, not judged")
    return JudgedMeasurement(
        verdict=worst(verdicts),
        measurement=measurement,
        second_look=second_look,
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
        pairs=pairs,
        reasons=reasons,
    )


def _reasons(pairs: list[PairResult]) -> list[str]:
    """Why a pair is neither plainly good nor plainly worse."""
    return [
        f"{pair.key.metric}: {reason}"
        for pair in pairs
        if pair.verdict in {Verdict.INCONCLUSIVE, Verdict.NO_BASELINE}
        for reason in pair.judgement.reasons
    ]


def valid_pairs(tests: Iterable[JudgedTest]) -> list[PairResult]:
    """Every pair of a measurement that means something."""
    return [
        pair
        for test in tests
        for judged in test.measurements
        if judged.verdict is not Verdict.INVALID
        for pair in judged.pairs
        if pair.looks
    ]


def overall(
    measurements: list[JudgedMeasurement], comparisons: Sequence[Comparison] = ()
) -> Verdict | None:
    """The worst verdict of a test's measurements and comparisons; None without any."""
    verdicts = [each.verdict for each in measurements]
    verdicts += [each.verdict for each in comparisons if each.verdict is not None]
    return worst(verdicts) if verdicts else None


def write_json(result: RunResult, path: Path) -> None:
    """Write the result beside ``path`` and rename it there, so that no reader sees half a file.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        beside.write_bytes(laid_out(result))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class NoResult(ValueError):
    """A file is no result of this release; the message names it and says why."""


class _Head(msgspec.Struct):
    format: str
    version: int


def read_json(path: Path) -> RunResult:
    """What :func:`write_json` wrote. Raises OSError, NoResult."""
    data = path.read_bytes()
    try:
        head = msgspec.json.decode(data, type=_Head)
        if (head.format, head.version) == (FORMAT, VERSION):
            return msgspec.json.decode(data, type=RunResult)
    except (ValueError, RecursionError) as error:
        raise NoResult(f"{path}: no result of --llmperf-json: {error}") from error
    raise NoResult(
        f"{path}: is {head.format} {head.version}, this release reads {FORMAT} {VERSION}"
    )


def schema() -> dict[str, object]:
    """JSON Schema of the file."""
    return msgspec.json.schema(RunResult)
