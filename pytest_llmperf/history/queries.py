"""How is the history asked, as SQL?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, and_, func, or_, select

from pytest_llmperf.history import schema


def looks(
    connection: Connection, test: str, measure: str, metric: str, limit: int
) -> dict[int, list[RowMapping]]:
    """First and second looks by the key of their session, newest session first."""
    session, invocation, value = schema.session.c, schema.invocation.c, schema.value.c
    measured = schema.invocation.join(schema.value, value.invocation == invocation.key)
    wanted = and_(invocation.test == test, invocation.measure == measure, value.metric == metric)
    last = (
        select(invocation.session.label("key"))
        .select_from(measured)
        .where(wanted)
        .distinct()
        .order_by(invocation.session.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(
            session.key,
            session.id.label("session"),
            *(session.started_at, session.commit, session.fingerprint),
            *(invocation.engine_version, invocation.config, invocation.number),
            *(value.unit, value.median, value.low, value.high, value.n),
        )
        .select_from(last)
        .join(schema.session, session.key == last.c.key)
        .join(schema.invocation, invocation.session == last.c.key)
        .join(schema.value, value.invocation == invocation.key)
        .where(wanted)
        .order_by(session.key.desc(), invocation.key)
    )
    found: dict[int, list[RowMapping]] = {}
    for row in connection.execute(query).mappings():
        if row["number"] == 0 or row["key"] not in found:
            found[row["key"]] = []
        found[row["key"]].append(row)
    return found


def verdicts(
    connection: Connection, test: str, measure: str, metric: str, sessions: list[int]
) -> dict[int, str]:
    """By the key of the session; the metric's own goes before the whole measurement's."""
    verdict = schema.verdict.c
    is_own = verdict.metric.is_not(None)
    query = (
        select(verdict.session, verdict.verdict)
        .where(
            verdict.session.in_(sessions),
            verdict.test == test,
            verdict.measure == measure,
            or_(verdict.metric == metric, verdict.metric.is_(None)),
        )
        .order_by(is_own, verdict.key)
    )
    return {row.session: row.verdict for row in connection.execute(query)}


def verdict_counts(connection: Connection, sessions: Sequence[str]) -> dict[str, Counter[str]]:
    """Of whole measurements, by the session's id."""
    session, verdict = schema.session.c, schema.verdict.c
    query = (
        select(session.id, verdict.verdict, func.count())
        .join_from(schema.session, schema.verdict, verdict.session == session.key)
        .where(session.id.in_(sessions), verdict.metric.is_(None))
        .group_by(session.id, verdict.verdict)
    )
    found: dict[str, Counter[str]] = {}
    for name, judged, count in connection.execute(query):
        found.setdefault(name, Counter())[judged] = count
    return found


def measured(connection: Connection) -> list[tuple[str, str]]:
    """Tests and the names of their measurements."""
    invocation = schema.invocation.c
    query = (
        select(invocation.test, invocation.measure)
        .distinct()
        .order_by(invocation.test, invocation.measure)
    )
    return [(test, measure) for test, measure in connection.execute(query)]
