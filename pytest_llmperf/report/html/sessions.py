"""What did earlier sessions measure of a pair? Its baseline's sessions, else the history's.

A result carries what the baseline keeps. Only a pair without a baseline is looked up in the history
database, and only where one was named.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_llmperf.gate.pair import SIZES, Earlier, PairResult
from pytest_llmperf.gate.verdict import tolerated
from pytest_llmperf.report import words
from pytest_llmperf.report.html.drawing import Rows
from pytest_llmperf.report.html.model import Figure
from pytest_llmperf.report.html.saying import title_of, value_of

if TYPE_CHECKING:  # it imports SQLAlchemy, which takes longer than the whole page
    from pytest_llmperf.history import History

MOST = 50
NOW = "this run"

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
    """The pair's sessions up to now, with what its gate tolerates; None: there were none."""
    if not past:
        return None
    metric = pair.key.metric
    rows: Rows = [
        {
            "at": _name(number, each),
            "value": each.value,
            "text": value_of(metric, each.value),
            "commit": each.commit or "–",
        }
        for number, each in enumerate(past, 1)
    ]
    now: Rows = [{"at": NOW, "value": pair.value, "text": f"{NOW}: {value_of(metric, pair.value)}"}]
    starts = _starts(past)
    told = [_told(pair, past)]
    if starts:
        told.append("Upright lines: a new normal was accepted.")
    band = _band(pair)
    if band is not None:
        told.append(_told_of_band(pair, *band))
    data: dict[str, Rows] = {"past": rows, "now": now}
    data["starts"] = [{"at": _name(*each)} for each in starts]
    data["band"] = [] if band is None else _drawn(band, starts[-1] if starts else (1, past[0]))
    title = f"{title_of(metric)} over {len(past) + 1} sessions"
    return Figure(title, " ".join(told), "sessions", data)


def _name(number: int, session: Earlier) -> str:
    return f"{session.date} #{number}"


def _starts(past: list[Earlier]) -> list[tuple[int, Earlier]]:
    """The first session of each epoch but the first, and its number."""
    pairs = enumerate(itertools.pairwise(past), 2)
    return [(number, new) for number, (old, new) in pairs if old.epoch != new.epoch]


def _band(pair: PairResult) -> tuple[float, float, float] | None:
    """Its lower end, the normal, its upper end; None: nothing was compared.

    Losses and gains are ratios: so much less speed is so much more by its inverse, and so are
    times and sizes.
    """
    if pair.normal is None or pair.judgement.effect is None or not pair.is_gated:
        return None
    kept_share = 1 - _tolerated(pair)
    return pair.normal * kept_share, pair.normal, pair.normal / kept_share


def _tolerated(pair: PairResult) -> float:
    """As the gate does it: of sizes the same at every age."""
    if pair.key.metric in SIZES:
        return pair.tolerance
    return tolerated(pair.tolerance, pair.judgement.sessions)


def _drawn(band: tuple[float, float, float], start: tuple[int, Earlier]) -> Rows:
    """From the first session of the epoch up to now."""
    low, normal, high = band
    return [{"at": at, "low": low, "normal": normal, "high": high} for at in (_name(*start), NOW)]


def _told(pair: PairResult, past: list[Earlier]) -> str:
    metric = pair.key.metric
    values = [each.value for each in past]
    between = f"{value_of(metric, min(values))} to {value_of(metric, max(values))}"
    since = f"{len(past)} kept, the oldest of {past[0].date[:10]}: {between}"
    return f"{since}; {NOW} (diamond): {value_of(metric, pair.value)}."


def _told_of_band(pair: PairResult, low: float, normal: float, high: float) -> str:
    least, usual, most = (value_of(pair.key.metric, each) for each in (low, normal, high))
    return (
        f"Band: {least} to {most}, the tolerance of {words.percent(_tolerated(pair))} around "
        f"{usual}, the normal for today's machine. It is not the verdict, which has to be sure, "
        "too."
    )
