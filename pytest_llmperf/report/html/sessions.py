"""What did earlier sessions measure of a pair? Its baseline's sessions, else the history's.

A result carries what the baseline keeps. Only a pair without a baseline is looked up in the history
database, and only where one was named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_llmperf.gate.pair import Earlier, PairResult
from pytest_llmperf.report.html.figures import Rows
from pytest_llmperf.report.html.model import Figure
from pytest_llmperf.report.html.saying import title_of, value_of

if TYPE_CHECKING:  # it imports SQLAlchemy, which takes longer than the whole page
    from pytest_llmperf.history import History

MOST = 50

Past = Callable[[PairResult, float], list[Earlier]]
"""What is known of a pair from before this run, oldest first; by what its first look measured."""


def kept(pair: PairResult, _: float) -> list[Earlier]:
    """What the result itself holds."""
    return pair.earlier[-MOST:]


@contextmanager
def past_in(url: str | None) -> Iterator[Past]:
    """Ask the history too, by default that in the user's state directory.

    Raises HistoryError: at the start, or from the question.
    """
    from pytest_llmperf.history import History

    with History.open(url) as history:
        yield lambda pair, median: kept(pair, median) or _remembered(history, pair, median)


def _remembered(history: History, pair: PairResult, median: float) -> list[Earlier]:
    """On this machine, in this configuration; the run that is shown is left out.

    It is the latest that measured ``median``: what a process needs of RAM may never change.
    """
    key = pair.key
    points = history.latest(f"{pair.module}::{key.test}", key.measure, key.metric, MOST + 1)
    alike = [
        each for each in points if (each.fingerprint, each.config) == (pair.fingerprint, key.config)
    ]
    this = next((each for each in alike if each.median == median), None)
    alike = [each for each in alike if each is not this]
    return [
        Earlier(
            date=f"{each.started_at:%Y-%m-%dT%H:%M}",
            value=each.median,
            epoch=0,
            commit=each.commit and each.commit[:12],
        )
        for each in reversed(alike[:MOST])
    ]


def series(pair: PairResult, past: list[Earlier]) -> Figure | None:
    """The pair's sessions up to now, with its baseline's band; None: there were none."""
    if not past:
        return None
    metric = pair.key.metric
    rows: Rows = [
        {
            "at": f"{each.date} #{number}",
            "value": each.value,
            "text": value_of(metric, each.value),
            "commit": each.commit or "–",
        }
        for number, each in enumerate(past, 1)
    ]
    now: Rows = [
        {"at": "this run", "value": pair.value, "text": f"this run: {value_of(metric, pair.value)}"}
    ]
    band: Rows = []
    told = _told(pair, past)
    if pair.normal is not None:
        low, high = (pair.normal * (1 + sign * pair.tolerance) for sign in (-1, 1))
        band = [{"low": low, "high": high, "normal": pair.normal}]
        told += (
            f" Band: {value_of(metric, low)} to {value_of(metric, high)} around the baseline's "
            f"normal of {value_of(metric, pair.normal)}."
        )
    title = f"{title_of(metric)} over {len(past) + 1} sessions"
    return Figure(title, told, "sessions", {"past": rows, "now": now, "band": band})


def _told(pair: PairResult, past: list[Earlier]) -> str:
    metric = pair.key.metric
    values = [each.value for each in past]
    between = f"{value_of(metric, min(values))} to {value_of(metric, max(values))}"
    since = f"{len(past)} earlier since {past[0].date[:10]}: {between}"
    return f"{since}; this run (diamond): {value_of(metric, pair.value)}."
