"""What is accepted as normal on this machine, and how is it changed without a run?"""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_llmperf.cli.answer import (
    NOTHING,
    TOOL_FAILED,
    USAGE,
    Wrong,
    complain,
    print_json,
    say,
    wrapped,
)
from pytest_llmperf.cli.baseline_files import export_result, import_result
from pytest_llmperf.cli.baseline_seed import SEEDS, seed_pairs
from pytest_llmperf.cli.plot import Band, Dot, can_show, plot
from pytest_llmperf.gate.baseline import BaselineError, EpochLine, Line, PairKey, SessionLine
from pytest_llmperf.gate.baseline_acts import accept_latest
from pytest_llmperf.gate.baseline_file import BaselineStore, write_lines
from pytest_llmperf.gate.baseline_find import (
    BadCollection,
    NoBaselines,
    NoSuchTest,
    Pair,
    matching,
    missing,
    of_machines,
    of_tests,
)
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.recording import Accepted
from pytest_llmperf.gate.verdict import TOLERANCE
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.origin import user
from pytest_llmperf.report import words

_EXIT_CODES = {NoBaselines: NOTHING, NoSuchTest: USAGE, BadCollection: USAGE}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    parser = commands.add_parser("baseline", help="what is accepted as normal: look, change, seed")
    acts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(acts, "list", _list, "each pair in a line: sessions, centre, noise, smallest loss found")
    show = _add(acts, "show", _show, "every session of a test as a plot, and its acceptances")
    show.add_argument("pattern", help="part of the test's node id")
    accept = _add(acts, "accept", _accept, "the latest session is the new normal")
    accept.add_argument("pattern", help="part of the test's node id")
    accept.add_argument(
        "--reason", type=_reason, required=True, metavar="WHY", help="why this is the new normal"
    )
    accept.add_argument(
        "--history",
        default=os.environ.get("LLMPERF_HISTORY") or None,
        metavar="URL|off",
        help="where it is written down, as --llmperf-history takes it",
    )
    prune = _add(acts, "prune", _prune, "forget pairs")
    prune.add_argument("pattern", nargs="?", help="part of the test's node id")
    which = prune.add_mutually_exclusive_group()
    which.add_argument(
        "--missing",
        type=Path,
        metavar="FILE",
        help="those whose test is not in FILE, made with: pytest --collect-only -q > FILE",
    )
    which.add_argument("--test", nargs="+", metavar="NODEID", help="those of these tests")
    prune.add_argument("--yes", action="store_true", help="do it; without, they are only listed")
    seeding = _add(
        acts,
        "seed",
        seed_pairs,
        f"run pytest {SEEDS} times: a baseline for tests without one",
    )
    seeding.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="-- PYTEST ARGS",
        help="what to run, after a -- if an option comes first",
    )
    taking = _add(acts, "import", import_result, "record what a result file holds (--llmperf-json)")
    giving = _add(acts, "export", export_result, "write a result file as pytest-benchmark does")
    for each in (taking, giving):
        each.add_argument("file", type=Path, metavar="FILE.json")
        each.add_argument("--commit", metavar="ID", help="which commit was measured")
    giving.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT", help="the file to write"
    )


def _add(
    acts: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    told: str,
) -> argparse.ArgumentParser:
    parser = acts.add_parser(name, help=told, description=told, allow_abbrev=False)
    folder = os.environ.get("LLMPERF_BASELINES") or "baselines"
    parser.add_argument(
        "--baselines", type=Path, default=folder, metavar="DIR", help="their folder (%(default)s)"
    )
    if name in {"list", "show", "accept", "prune"}:
        parser.add_argument(
            "--fingerprint",
            action="append",
            metavar="NAME",
            help="of which machines, with * and ?; repeatable (this machine)",
        )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=functools.partial(_guarded, run, name))
    return parser


def _reason(text: str) -> str:
    """An option takes the next word of the command line, which may have been meant as a test."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must say why")
    if "::" in text or os.path.exists(text):  # noqa: PTH110 - Path refuses a long text
        raise argparse.ArgumentTypeError(
            f"must say why; {text!r} is a path: write --reason=WHY {text}"
        )
    return text.strip()


def _guarded(
    run: Callable[[argparse.Namespace], int], name: str, options: argparse.Namespace
) -> int:
    """What goes wrong is one message and an exit code."""
    try:
        return run(options)
    except (BaselineError, Wrong) as error:
        complain(f"pytest-llmperf baseline {name}: {error}")
        if isinstance(error, Wrong):
            return error.exit_code
        return _EXIT_CODES.get(type(error), TOOL_FAILED)


# Looking


def _pairs(options: argparse.Namespace) -> list[Pair]:
    """Those of the machines and of the part of a name that were asked for."""
    wanted = options.fingerprint
    if wanted is None:
        here = detect()
        wanted = sorted({here.fingerprint, here.cpu_fingerprint})
    pairs = of_machines(options.baselines, wanted)
    pattern = getattr(options, "pattern", None)
    return pairs if pattern is None else matching(pairs, pattern)


def _listed(pair: Pair) -> dict[str, object]:
    names = ("fingerprint", "module", "key", "overview")
    return {name: getattr(pair, name) for name in names}


def _list(options: argparse.Namespace) -> int:
    pairs = _pairs(options)
    if options.json:
        print_json({"pairs": [_listed(pair) for pair in pairs]})
        return 0
    say(_row("", "sessions", "epoch", "centre", "noise", "mde", "latest"))
    above: list[str] = []
    for pair in pairs:
        heads = [pair.fingerprint, pair.module, f"{pair.key.test} · {_what(pair.key)}"]
        for depth, head in enumerate(heads):
            if heads[: depth + 1] != above[: depth + 1]:
                say(*wrapped(head, "  " * depth))
        above = heads
        say(_overview_line(pair))
    return 0


def _what(key: PairKey) -> str:
    return key.config if key.measure == "1" else f"{key.measure} · {key.config}"


def _overview_line(pair: Pair) -> str:
    seen = pair.overview
    row = _row(
        f"      {_label(pair.key.metric)}",
        str(seen.sessions),
        "–" if seen.epoch is None else str(seen.epoch),
        "–" if seen.centre is None else f"{words.number(seen.centre)} {seen.unit}",
        "–" if seen.noise is None else words.percent(seen.noise),
        "–" if seen.mde is None else words.percent(seen.mde),
        "–" if seen.latest is None else f"{seen.latest:%Y-%m-%d}",
    )
    trouble = wrapped(seen.trouble, "        ") if seen.trouble else []
    return "\n".join([row, *trouble])


def _row(*cells: str) -> str:
    name, sessions, epoch, centre, noise, mde, latest = cells
    return f"{name:<20}{sessions:>9}{epoch:>7}{centre:>16}{noise:>8}{mde:>8}  {latest}".rstrip()


def _label(metric: str) -> str:
    return BY_NAME[metric].label if metric in BY_NAME else metric


def _show(options: argparse.Namespace) -> int:
    pairs = _pairs(options)
    if options.json:
        print_json({"pairs": [_listed(pair) | {"baseline": pair.baseline} for pair in pairs]})
        return 0
    for index, pair in enumerate(pairs):
        say(*([""] if index else []), *_page(pair))
    return 0


def _page(pair: Pair) -> list[str]:
    head = [pair.test, f"{_label(pair.key.metric)} · {_what(pair.key)}", pair.fingerprint]
    lines = [part for each in head for part in wrapped(each)]
    sessions = pair.baseline.sessions
    lines += _drawn(pair) if sessions else ["no sessions are kept"]
    if pair.overview.trouble:
        lines += wrapped(f"no centre: {pair.overview.trouble}")
    for each in pair.baseline.epochs:
        lines += wrapped(_acceptance(each, pair.overview.unit))
    return lines


def _drawn(pair: Pair) -> list[str]:
    sessions, seen = pair.baseline.sessions, pair.overview
    unicode = can_show(sys.stdout.encoding)
    band = None
    if seen.centre is not None and sessions[-1].epoch == seen.epoch:
        band = Band(seen.centre * (1 - TOLERANCE), seen.centre, seen.centre / (1 - TOLERANCE))
    dots = [Dot(each.value, each.date, _mark(each), f"epoch {each.epoch}") for each in sessions]
    lines = ["", *plot(dots, band, unicode=unicode)]
    if band is not None:
        told = [f"centre {words.number(band.centre)} {seen.unit} ±{words.percent(TOLERANCE)}"]
        told += [
            f"{name} {words.percent(share)}"
            for name, share in (("noise", seen.noise), ("mde", seen.mde))
            if share is not None
        ]
        lines.append(", ".join(told))
    return [*lines, ""]


def _mark(session: SessionLine) -> str:
    if session.guard:
        return "machine had changed"
    return "seed" if session.seeded else "session"


def _acceptance(line: EpochLine, unit: str) -> str:
    old = "" if line.old is None else f"{words.number(line.old)} → "
    commit = f" at {line.commit}" if line.commit else ""
    new = f"{words.number(line.new)} {unit}".rstrip()
    return (
        f"epoch {line.epoch}  {line.date:%Y-%m-%d}  {old}{new}, by {line.accepted_by}{commit}: "
        f"{line.reason}"
    )


# Changing


def _accept(options: argparse.Namespace) -> int:
    now = datetime.datetime.now(datetime.UTC)
    by = user()
    accepted: list[tuple[Pair, EpochLine]] = []
    already: list[Pair] = []
    changes: dict[tuple[str, str], list[Line]] = {}
    for pair in _pairs(options):
        lines = accept_latest(
            pair.baseline, by=by, reason=options.reason, date=now, cohort=pair.cohort
        )
        changes.setdefault((pair.fingerprint, pair.module), []).extend(lines)
        accepted += [(pair, line) for line in lines if isinstance(line, EpochLine)]
        already += [] if lines else [pair]
    write_lines(options.baselines, changes)
    _remember(options.history, accepted)
    if options.json:
        print_json(
            {
                "accepted": [{"test": pair.test, "line": line} for pair, line in accepted],
                "already_normal": [_listed(pair) for pair in already],
            }
        )
        return 0
    for pair, line in accepted:
        say(*wrapped(f"accepted: {pair.text}"))
        say(*wrapped(_acceptance(line, pair.overview.unit), "  "))
    for pair in already:
        say(*wrapped(f"already the normal, nothing is newer: {pair.text}"))
    return 0


def _remember(url: str | None, accepted: Sequence[tuple[Pair, EpochLine]]) -> None:
    """The baseline is what counts: a history that cannot be written is a note."""
    if url == "off" or not accepted:
        return
    # Not at the top: this imports SQLAlchemy, which takes longer than any other command.
    from pytest_llmperf.history import Acceptance, History, HistoryError

    try:
        with History.open(url) as history:
            for pair, line in accepted:
                told = Accepted(fingerprint=pair.fingerprint, module=pair.module, line=line)
                history.accept(Acceptance.of(told))
    except HistoryError as error:
        complain(f"note: {error}")


def _prune(options: argparse.Namespace) -> int:
    if options.pattern is None and options.missing is None and options.test is None:
        raise Wrong("say what to forget: a pattern, --test or --missing", USAGE)
    pairs = _pairs(options)
    if options.missing is not None:
        pairs = missing(pairs, options.missing)
    if options.test is not None:
        pairs = of_tests(pairs, options.test)
    if options.yes:
        _forget(options.baselines, pairs)
    if options.json:
        print_json({"forgotten": options.yes, "pairs": [_listed(pair) for pair in pairs]})
        return 0
    for pair in pairs:
        say(*wrapped(f"{'forgot' if options.yes else 'would forget'}: {pair.text}"))
    if not pairs:
        say("nothing to forget: every test of these baselines is there")
    elif not options.yes:
        say("nothing was changed; to forget them, add --yes")
    return 0


def _forget(root: Path, pairs: Sequence[Pair]) -> None:
    for fingerprint, module in dict.fromkeys((pair.fingerprint, pair.module) for pair in pairs):
        keys = {p.key for p in pairs if (p.fingerprint, p.module) == (fingerprint, module)}
        BaselineStore(root, fingerprint).forget(module, keys)
