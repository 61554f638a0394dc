"""What did earlier runs measure, and how were they judged? The history, looked at and pruned."""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from pytest_llmperf.cli.answer import (
    NOTHING,
    TOOL_FAILED,
    USAGE,
    WIDTH,
    Wrong,
    complain,
    print_json,
    say,
    wrapped,
)
from pytest_llmperf.cli.plot import Dot, can_show, plot
from pytest_llmperf.gate.baseline_find import nearest
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report import words

if TYPE_CHECKING:  # they import SQLAlchemy, which takes longer than any other command
    from pytest_llmperf.history import History, Point, SessionFacts

_OFF = "off"
_LIMIT = 20
_POINTS = 50


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    parser = commands.add_parser("history", help="what earlier runs measured: look, prune")
    acts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _add(acts, "list", _list, "the latest sessions and their verdicts")
    listing.add_argument(
        "--limit", type=_count, default=_LIMIT, metavar="N", help=f"so many at most ({_LIMIT})"
    )
    show = _add(acts, "show", _show, "the values of a test as a plot, marked by verdict")
    show.add_argument("test", help="a node id, or a part of one")
    show.add_argument(
        "--metric",
        choices=BY_NAME,
        default="decode_tps",
        metavar="NAME",
        help="whose values are shown (decode_tps)",
    )
    show.add_argument(
        "--limit", type=_count, default=_POINTS, metavar="N", help=f"so many at most ({_POINTS})"
    )
    prune = _add(acts, "prune", _prune, "forget old sessions; baselines stay")
    prune.add_argument(
        "--before",
        type=_date,
        required=True,
        metavar="DATE",
        help="the first day that stays, such as 2026-11-20",
    )


def _add(
    acts: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[History, argparse.Namespace], int],
    told: str,
) -> argparse.ArgumentParser:
    parser = acts.add_parser(name, help=told, description=told)
    parser.add_argument(
        "--url",
        default=os.environ.get("LLMPERF_HISTORY") or None,
        help="the database, as --llmperf-history takes it (a file in your state directory)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=functools.partial(_guarded, run, name))
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError("must be a whole number between 1 and 10000")
    return int(text)


def _date(text: str) -> datetime.datetime:
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2026-11-20") from None
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)


def _guarded(
    run: Callable[[History, argparse.Namespace], int], name: str, options: argparse.Namespace
) -> int:
    """What goes wrong is one message and an exit code."""
    from pytest_llmperf.history import History, HistoryError

    try:
        if options.url == _OFF:
            raise Wrong("the history is off; name a database with --url", USAGE)
        if (missing := History.missing(options.url)) is not None:
            raise Wrong(f"there is no {missing} yet: pytest --llmperf makes one", NOTHING)
        with History.open(options.url) as history:
            return run(history, options)
    except (HistoryError, Wrong) as error:
        complain(f"pytest-llmperf history {name}: {error}")
        return error.exit_code if isinstance(error, Wrong) else TOOL_FAILED


def _list(history: History, options: argparse.Namespace) -> int:
    sessions = history.sessions(options.limit)
    if not sessions:
        raise Wrong(f"{history.name} holds no sessions yet", NOTHING)
    counts = history.verdict_counts([each.id for each in sessions])
    if options.json:
        print_json(
            {
                "sessions": [
                    msgspec.to_builtins(each) | {"verdicts": counts.get(each.id, {})}
                    for each in sessions
                ]
            }
        )
        return 0
    for fingerprint, members in groupby(sessions, key=lambda each: each.fingerprint):
        say(fingerprint)
        for each in members:
            say(*_session_lines(each, counts.get(each.id, Counter())))
    return 0


def _session_lines(session: SessionFacts, verdicts: Counter[str]) -> list[str]:
    ordered = [(verdicts[name], name) for name in reversed(Verdict) if name in verdicts]
    told = ", ".join(f"{count} {name}" for count, name in ordered) or "nothing was judged"
    commit = (session.commit or "–")[:12]
    head = f"  {session.started_at:%Y-%m-%d %H:%M}  {commit:<12}  exit {session.exit_status}  "
    return textwrap.wrap(told, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _show(history: History, options: argparse.Namespace) -> int:
    found = [
        (test, measure, points)
        for test, measure in _named(history, options.test)
        if (points := history.latest(test, measure, options.metric, options.limit))
    ]
    if not found:
        raise Wrong(f"{options.metric} was not measured by {options.test}", NOTHING)
    if options.json:
        series = [{"test": t, "measure": m, "points": points} for t, m, points in found]
        print_json({"metric": options.metric, "series": series})
        return 0
    pages = [page for each in found for page in _pages(*each, options.metric)]
    for index, page in enumerate(pages):
        say(*([""] if index else []), *page)
    return 0


def _pages(test: str, measure: str, points: Sequence[Point], metric: str) -> Iterator[list[str]]:
    """One for each machine and configuration: other values are not comparable."""
    places = dict.fromkeys((point.fingerprint, point.config) for point in points)
    for fingerprint, config in places:
        series = [p for p in reversed(points) if (p.fingerprint, p.config) == (fingerprint, config)]
        named = config if measure == "1" else f"{measure} · {config}"
        latest = series[-1]
        value = f"{words.number(latest.median)} {latest.unit}".rstrip()
        heads = [test, f"{BY_NAME[metric].label} · {named}", fingerprint]
        dots = [
            Dot(point.median, point.started_at, point.verdict or "not judged") for point in series
        ]
        yield [
            *(line for head in heads for line in wrapped(head)),
            "",
            *plot(dots, unicode=can_show(sys.stdout.encoding)),
            *wrapped(
                f"latest {value}, engine {latest.engine_version}, commit {latest.commit or '–'}"
            ),
        ]


def _prune(history: History, options: argparse.Namespace) -> int:
    forgotten = history.prune(options.before)
    if options.json:
        print_json({"forgotten": forgotten, "before": options.before})
    else:
        what = f"{forgotten} session{'s'[: forgotten != 1]}"
        say(f"forgot {what} that began before {options.before:%Y-%m-%d %H:%M %Z}")
    return 0


def _named(history: History, pattern: str) -> list[tuple[str, str]]:
    """Tests and measurements: that of this name, else those with it in theirs. Raises Wrong."""
    known = history.measured()
    if not known:
        raise Wrong(f"{history.name} holds no measurements yet", NOTHING)
    exact = [(test, measure) for test, measure in known if test == pattern]
    found = exact or [(test, measure) for test, measure in known if pattern in test]
    if not found:
        near = ", ".join(nearest(pattern, {test for test, _ in known}))
        raise Wrong(f"no test has {pattern!r} in its name; near: {near}", USAGE)
    return found
