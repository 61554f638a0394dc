"""What was it before? Sessions are written down, and asked for what they measured."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select

from pytest_llmperf.gate import Verdict
from pytest_llmperf.history import queries, schema
from pytest_llmperf.history.database import PATIENCE_S, Database, missing
from pytest_llmperf.history.schema import Acceptance, Invocation, SessionFacts, SessionRecord

_LATEST = 50

_Fact = TypeVar("_Fact")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one measurement in one session."""

    session: str
    started_at: datetime.datetime
    commit: str | None
    fingerprint: str
    engine_version: str
    config: str
    unit: str
    median: float
    """Of the first look; so are the quartiles and ``n``."""
    low: float
    high: float
    n: int
    second_looks: tuple[float, ...]
    """Medians of the fresh workers that were asked as well."""
    verdict: Verdict | None
    """Of the metric, or else of the whole measurement; None: not judged."""


class History:
    """The database of all sessions. Losing it loses trends, never baselines.

    Everything raises HistoryError, and nothing else, when the database cannot do it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str | None = None, *, patience_s: float = PATIENCE_S) -> Self:
        """Open ``url`` (any SQLAlchemy URL), or the file in the user's state folder.

        Makes the tables if there are none. ``patience_s``: how long to wait for another writer.
        """
        return cls(Database.open(url, patience_s=patience_s))

    @staticmethod
    def missing(url: str | None = None) -> str | None:
        """Which file does not exist, and would be made by opening it; None: there is one."""
        return missing(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give files and connections back."""
        self._database.close()

    @property
    def name(self) -> str:
        """Its URL, the password hidden."""
        return self._database.name

    def record(self, session: SessionRecord, accepted: Sequence[Acceptance] = ()) -> None:
        """Write one session and what it accepted, whole or not at all.

        It is on the disk when this returns.
        """
        doing = f"record session {session.id}"
        self._refuse_nan(doing, _numbers_of_session(session))
        for acceptance in accepted:
            self._refuse_nan(doing, _numbers_of_acceptance(acceptance))
        with self._database.transaction(doing) as connection:
            row = {name: getattr(session, name) for name in SessionFacts.__struct_fields__}
            key = _insert(connection, schema.session, row)
            values, samples = [], []
            for each in session.invocations:
                parent = _insert(connection, schema.invocation, _invocation_row(key, each))
                for value in each.values:
                    fields = msgspec.structs.asdict(value)
                    taken = fields.pop("samples")
                    values.append({"invocation": parent, **fields})
                    samples += _sample_rows(parent, value.metric, taken)
            verdicts = [
                {**msgspec.structs.asdict(each), "session": key, "reasons": _json(each.reasons)}
                for each in session.verdicts
            ]
            for table, rows in (
                (schema.value, values),
                (schema.sample, samples),
                (schema.verdict, verdicts),
            ):
                if rows:
                    connection.execute(insert(table), rows)
            for acceptance in accepted:
                _insert(connection, schema.acceptance, msgspec.structs.asdict(acceptance))

    def latest(self, test: str, measure: str, metric: str, limit: int = _LATEST) -> list[Point]:
        """The values of a metric in the last sessions that have it, the newest first.

        The newest is what was written last, whatever the clock said. A test that was run again
        within a session counts by its last run.
        """
        with self._database.transaction("read it") as connection:
            looks = queries.looks(connection, test, measure, metric, limit)
            verdicts = queries.verdicts(connection, test, measure, metric, list(looks))
            return [_point(rows, verdicts.get(key)) for key, rows in looks.items()]

    def sessions(self, limit: int = _LATEST) -> list[SessionFacts]:
        """The last sessions, the newest first."""
        wanted = select(schema.session).order_by(schema.session.c.key.desc()).limit(limit)
        with self._database.transaction("read it") as connection:
            return [_read(row, SessionFacts) for row in connection.execute(wanted).mappings()]

    def verdict_counts(self, sessions: Sequence[str]) -> dict[str, Counter[str]]:
        """How many measurements of each session had which verdict."""
        with self._database.transaction("read it") as connection:
            return queries.verdict_counts(connection, sessions)

    def measured(self) -> list[tuple[str, str]]:
        """Every test and measurement there ever was, in order."""
        with self._database.transaction("read it") as connection:
            return queries.measured(connection)

    def accept(self, acceptance: Acceptance) -> None:
        """Write down that a value became the new normal."""
        doing = f"record the acceptance of {acceptance.test}"
        self._refuse_nan(doing, _numbers_of_acceptance(acceptance))
        with self._database.transaction(doing) as connection:
            _insert(connection, schema.acceptance, msgspec.structs.asdict(acceptance))

    def acceptances(self, limit: int = _LATEST) -> list[Acceptance]:
        """The last acceptances, the newest first."""
        wanted = select(schema.acceptance).order_by(schema.acceptance.c.key.desc()).limit(limit)
        with self._database.transaction("read it") as connection:
            return [_read(row, Acceptance) for row in connection.execute(wanted).mappings()]

    def prune(self, before: datetime.datetime) -> int:
        """Forget the sessions that began before a time (with a zone); how many they were.

        Acceptances stay: they are few, and say why the values jump. The file keeps its size, and
        its room is used again.
        """
        old = delete(schema.session).where(schema.session.c.started_at < before)
        with self._database.transaction("prune it") as connection:
            return connection.execute(old).rowcount

    def _refuse_nan(self, doing: str, numbers: Iterator[tuple[str, float | None]]) -> None:
        for name, number in numbers:
            if number is not None and not math.isfinite(number):
                raise self._database.refusal(
                    doing, f"{name} is {number}. Leave out what was not measured."
                )


def _numbers_of_session(session: SessionRecord) -> Iterator[tuple[str, float | None]]:
    yield "wall_s of the session", session.wall_s
    for each in session.invocations:
        place = f"{each.test} ({each.measure})"
        yield f"wall_s of {place}", each.wall_s
        for value in each.values:
            for number in (value.median, value.low, value.high, *value.samples):
                yield f"{value.metric} of {place}", number
    for judged in session.verdicts:
        place = f"{judged.metric or 'all'} of {judged.test} ({judged.measure})"
        for figure in (judged.effect, judged.low, judged.high, judged.mde):
            yield f"a figure of the verdict on {place}", figure


def _numbers_of_acceptance(acceptance: Acceptance) -> Iterator[tuple[str, float | None]]:
    yield f"the old {acceptance.metric} of {acceptance.test}", acceptance.old
    yield f"the new {acceptance.metric} of {acceptance.test}", acceptance.new


def _insert(connection: Connection, table: Any, row: dict[str, Any]) -> int:
    """Write one row; its key."""
    written = connection.execute(insert(table), row).inserted_primary_key
    assert written is not None
    return int(written[0])


def _invocation_row(session: int, each: Invocation) -> dict[str, Any]:
    fields = msgspec.structs.asdict(each)
    del fields["values"]
    return {**fields, "session": session, "conditions": _json(each.conditions)}


def _sample_rows(invocation: int, metric: str, taken: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"invocation": invocation, "metric": metric, "ordinal": ordinal, "value": value}
        for ordinal, value in enumerate(taken)
    ]


def _json(anything: object) -> str:
    return msgspec.json.encode(anything).decode()


def _point(looks: Sequence[RowMapping], verdict: str | None) -> Point:
    again = [look["median"] for look in looks[1:]]
    return _read(looks[0], Point, second_looks=again, verdict=verdict)


def _read(row: RowMapping, kind: type[_Fact], **more: object) -> _Fact:
    """One fact, checked: somebody may have written to the database by hand."""
    named = {str(column): value for column, value in row.items()}  # not SQLAlchemy's kind of str
    return msgspec.convert(named | more, kind)
