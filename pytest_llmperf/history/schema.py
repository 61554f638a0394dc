"""What does the history remember, and in which tables?

The fields of a fact are named like the columns of its table. Rows are ordered by the key that they
got when they were written, never by a time: clocks are set back.
"""

from __future__ import annotations

import datetime
from typing import Any, Self

import msgspec
from sqlalchemy import (
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
)

from pytest_llmperf.gate import Verdict
from pytest_llmperf.gate.recording import Accepted
from pytest_llmperf.measure import Quantity

FORMAT = "pytest-llmperf-history"
VERSION = 1


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one invocation, in its unit."""

    metric: str
    unit: str
    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    n: int
    samples: tuple[float, ...] = ()
    """In the order in which they were taken; empty where they are too many to keep."""

    @classmethod
    def of(cls, metric: str, quantity: Quantity) -> Value:
        """What is kept of a quantity."""
        return cls(
            metric=metric,
            unit=quantity.unit,
            median=quantity.median,
            low=quantity.low,
            high=quantity.high,
            n=quantity.n,
            samples=tuple(quantity.values or ()),
        )


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One fresh worker that measured for a test."""

    test: str
    """Its pytest node id."""
    measure: str
    """Name of the measurement within the test."""
    config: str
    """Key of what was asked for: equal keys are comparable."""
    backend: str
    engine_version: str
    model: str
    quantization: str | None
    number: int
    """0: the first look; 1 and more: second looks."""
    wall_s: float
    conditions: dict[str, object] = {}
    """What disturbed it; anything that JSON can hold."""
    values: tuple[Value, ...] = ()


class JudgedPair(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one metric of one measurement. Changes are shares: −0.05 is 5 % worse."""

    test: str
    measure: str
    metric: str | None
    """None: the measurement as a whole."""
    verdict: Verdict
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    mde: float | None = None
    """Smallest loss that would have been found."""
    reasons: tuple[str, ...] = ()


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One pytest run on one machine."""

    id: str
    """Unique; chosen by whoever records."""
    started_at: datetime.datetime
    """With a time zone; comes back in UTC."""
    wall_s: float
    commit: str | None
    fingerprint: str
    machine: str
    """In words."""
    pytest_version: str
    plugin_version: str
    exit_status: int


class SessionRecord(SessionFacts, frozen=True, kw_only=True):
    """The same with everything that it measured and judged."""

    invocations: tuple[Invocation, ...] = ()
    verdicts: tuple[JudgedPair, ...] = ()


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody made a measured value the new normal."""

    at: datetime.datetime
    """With a time zone; comes back in UTC."""
    fingerprint: str
    module: str
    """Of the test: the key of its baseline file."""
    test: str
    measure: str
    metric: str
    config: str
    old: float | None
    """In the metric's unit; None: there was none."""
    new: float
    reason: str
    by: str
    commit: str | None

    @classmethod
    def of(cls, accepted: Accepted) -> Self:
        """As a baseline holds it."""
        line = accepted.line
        return cls(
            at=line.date,
            fingerprint=accepted.fingerprint,
            module=accepted.module,
            test=line.key.test,
            measure=line.key.measure,
            metric=line.key.metric,
            config=line.key.config,
            old=line.old,
            new=line.new,
            reason=line.reason,
            by=line.accepted_by,
            commit=line.commit,
        )


class _Utc(TypeDecorator[datetime.datetime]):
    """Kept without a zone, because SQLite has none to keep."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(
        self, value: datetime.datetime | None, _: Dialect
    ) -> datetime.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no time zone")
        return value.astimezone(datetime.UTC).replace(tzinfo=None)

    def process_result_value(
        self, value: datetime.datetime | None, _: Dialect
    ) -> datetime.datetime | None:
        return None if value is None else value.replace(tzinfo=datetime.UTC)


metadata = MetaData()


def _column(name: str, kind: Any = Text, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, *more, **{"nullable": False} | options)


def _parent(name: str, target: str) -> Column[Any]:
    """What a row belongs to, and is deleted with."""
    return _column(name, Integer, ForeignKey(target, ondelete="CASCADE"))


meta = Table("meta", metadata, _column("format"), _column("schema_version", Integer))

session = Table(
    "session",
    metadata,
    _column("key", Integer, primary_key=True),
    _column("id", unique=True),
    _column("started_at", _Utc),
    _column("wall_s", Float),
    _column("commit", nullable=True),
    _column("fingerprint"),
    _column("machine"),
    _column("pytest_version"),
    _column("plugin_version"),
    _column("exit_status", Integer),
    sqlite_autoincrement=True,  # the key of a pruned session is never given again
)

invocation = Table(
    "invocation",
    metadata,
    _column("key", Integer, primary_key=True),
    _parent("session", "session.key"),
    _column("test"),
    _column("measure"),
    _column("config"),
    _column("backend"),
    _column("engine_version"),
    _column("model"),
    _column("quantization", nullable=True),
    _column("number", Integer),
    _column("wall_s", Float),
    _column("conditions"),
    Index("invocation_by_test", "test", "measure", "session"),
    Index("invocation_by_session", "session"),
)

value = Table(
    "value",
    metadata,
    _parent("invocation", "invocation.key"),
    _column("metric"),
    _column("median", Float),
    _column("low", Float),
    _column("high", Float),
    _column("n", Integer),
    _column("unit"),
    PrimaryKeyConstraint("invocation", "metric"),
    sqlite_with_rowid=False,
)

sample = Table(
    "sample",
    metadata,
    _column("invocation", Integer),
    _column("metric"),
    _column("ordinal", Integer),
    _column("value", Float),
    PrimaryKeyConstraint("invocation", "metric", "ordinal"),
    ForeignKeyConstraint(
        ["invocation", "metric"], ["value.invocation", "value.metric"], ondelete="CASCADE"
    ),
    sqlite_with_rowid=False,
)

verdict = Table(
    "verdict",
    metadata,
    _column("key", Integer, primary_key=True),
    _parent("session", "session.key"),
    _column("test"),
    _column("measure"),
    _column("metric", nullable=True),
    _column("verdict"),
    _column("effect", Float, nullable=True),
    _column("low", Float, nullable=True),
    _column("high", Float, nullable=True),
    _column("mde", Float, nullable=True),
    _column("reasons"),
    Index("verdict_by_session", "session", "test", "measure"),
)

acceptance = Table(
    "acceptance",
    metadata,
    _column("key", Integer, primary_key=True),
    _column("at", _Utc),
    _column("fingerprint"),
    _column("module"),
    _column("test"),
    _column("measure"),
    _column("metric"),
    _column("config"),
    _column("old", Float, nullable=True),
    _column("new", Float),
    _column("reason"),
    _column("by"),
    _column("commit", nullable=True),
)
