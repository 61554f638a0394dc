"""What is accepted as normal on this machine, and how is it changed without a run?"""

from __future__ import annotations

import argparse
import datetime
import functools
import getpass
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from pytest_llmperf.cli.plot import Band, Dot, can_show, plot, printable
from pytest_llmperf.gate.baseline import BaselineError, EpochLine, Line, PairKey, SessionLine
from pytest_llmperf.gate.baseline_acts import accept_latest, seed
from pytest_llmperf.gate.baseline_file import BaselineStore
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
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.recording import Act, record
from pytest_llmperf.gate.verdict import TOLERANCE, Verdict
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.report import words
from pytest_llmperf.report.pytest_benchmark import to_pytest_benchmark
from pytest_llmperf.report.result import FORMAT, VERSION, RunResult

USAGE = 2
NOTHING = 3
TOOL_FAILED = 4
SEEDS = 5
_WIDTH = 80
_EXIT_CODES = {NoBaselines: NOTHING, NoSuchTest: USAGE, BadCollection: USAGE}
_PYTEST_RAN = {0, 1}
"""pytest's exit codes after which what it measured stands: all is well, tests failed."""


class _Wrong(Exception):
    """The command cannot do what was asked; carries the exit code."""

    def __init__(self, message: str, exit_code: int = TOOL_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    parser = commands.add_parser("baseline", help="what is accepted as normal: look, change, seed")
    acts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(acts, "list", _list, "each pair in a line: sessions, centre, noise, smallest loss found")
    show = _add(acts, "show", _show, "every session of a test as a plot, and its acceptances")
    show.add_argument("pattern", help="part of the test's node id")
    accept = _add(acts, "accept", _accept, "the latest session is the new normal")
    accept.add_argument("pattern", help="part of the test's node id")
    accept.add_argument("--reason", type=_reason, required=True, metavar="WHY")
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
        acts, "seed", _seed, f"run pytest {SEEDS} times: a first baseline for tests without one"
    )
    seeding.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="-- PYTEST ARGS",
        help="what to run, after a -- if an option comes first",
    )
    taking = _add(acts, "import", _import, "record the sessions of a result file (--llmperf-json)")
    giving = _add(acts, "export", _export, "write a result file as pytest-benchmark does")
    for each in (taking, giving):
        each.add_argument("file", type=Path, metavar="FILE.json")
        each.add_argument("--commit", metavar="ID", help="which commit was measured")
    giving.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")


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
    if not text.strip():
        raise argparse.ArgumentTypeError("must say why")
    return text.strip()


def _guarded(
    run: Callable[[argparse.Namespace], int], name: str, options: argparse.Namespace
) -> int:
    """What goes wrong is one message and an exit code."""
    try:
        return run(options)
    except (BaselineError, _Wrong) as error:
        told = f"pytest-llmperf baseline {name}: {error}"
        print(printable(told, sys.stderr.encoding), file=sys.stderr)
        if isinstance(error, _Wrong):
            return error.exit_code
        return _EXIT_CODES.get(type(error), TOOL_FAILED)


def _say(*lines: str) -> None:
    print("\n".join(printable(line, sys.stdout.encoding) for line in lines), flush=True)


def _print_json(anything: object) -> None:
    print(json.dumps(msgspec.to_builtins(anything), indent=1))


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
        _print_json({"pairs": [_listed(pair) for pair in pairs]})
        return 0
    _say(_row("", "sessions", "epoch", "centre", "noise", "mde", "latest"))
    above: list[str] = []
    for pair in pairs:
        heads = [pair.fingerprint, pair.module, f"{pair.key.test} · {_what(pair.key)}"]
        for depth, head in enumerate(heads):
            if heads[: depth + 1] != above[: depth + 1]:
                _say(*_wrapped(head, "  " * depth))
        above = heads
        _say(_overview_line(pair))
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
    trouble = _wrapped(seen.trouble, "        ") if seen.trouble else []
    return "\n".join([row, *trouble])


def _row(*cells: str) -> str:
    name, sessions, epoch, centre, noise, mde, latest = cells
    return f"{name:<20}{sessions:>9}{epoch:>7}{centre:>16}{noise:>8}{mde:>8}  {latest}".rstrip()


def _label(metric: str) -> str:
    return BY_NAME[metric].label if metric in BY_NAME else metric


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
    )


def _show(options: argparse.Namespace) -> int:
    pairs = _pairs(options)
    if options.json:
        _print_json({"pairs": [_listed(pair) | {"baseline": pair.baseline} for pair in pairs]})
        return 0
    for index, pair in enumerate(pairs):
        _say(*([""] if index else []), *_page(pair))
    return 0


def _page(pair: Pair) -> list[str]:
    head = [pair.test, f"{_label(pair.key.metric)} · {_what(pair.key)}", pair.fingerprint]
    lines = [part for each in head for part in _wrapped(each)]
    sessions = pair.baseline.sessions
    lines += _drawn(pair) if sessions else ["no sessions are kept"]
    if pair.overview.trouble:
        lines += _wrapped(f"no centre: {pair.overview.trouble}")
    for each in pair.baseline.epochs:
        lines += _wrapped(_acceptance(each, pair.overview.unit))
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
    by = _user()
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
    _write(options.baselines, changes)
    if options.json:
        _print_json(
            {
                "accepted": [{"test": pair.test, "line": line} for pair, line in accepted],
                "already_normal": [_listed(pair) for pair in already],
            }
        )
        return 0
    for pair, line in accepted:
        _say(*_wrapped(f"accepted: {pair.text}"))
        _say(*_wrapped(_acceptance(line, pair.overview.unit), "  "))
    for pair in already:
        _say(*_wrapped(f"already the normal, nothing is newer: {pair.text}"))
    return 0


def _write(root: Path, changes: Mapping[tuple[str, str], Sequence[Line]]) -> None:
    """By fingerprint and module: each file as a whole or not at all."""
    for (fingerprint, module), lines in changes.items():
        BaselineStore(root, fingerprint).update(module, lines)


def _prune(options: argparse.Namespace) -> int:
    if options.pattern is None and options.missing is None and options.test is None:
        raise _Wrong("say what to forget: a pattern, --test or --missing", USAGE)
    pairs = _pairs(options)
    if options.missing is not None:
        pairs = missing(pairs, options.missing)
    if options.test is not None:
        pairs = of_tests(pairs, options.test)
    if options.yes:
        _forget(options.baselines, pairs)
    if options.json:
        _print_json({"forgotten": options.yes, "pairs": [_listed(pair) for pair in pairs]})
        return 0
    for pair in pairs:
        _say(*_wrapped(f"{'forgot' if options.yes else 'would forget'}: {pair.text}"))
    if not pairs:
        _say("nothing to forget: every test of these baselines is there")
    elif not options.yes:
        _say("nothing was changed; to forget them, add --yes")
    return 0


def _forget(root: Path, pairs: Sequence[Pair]) -> None:
    for fingerprint, module in dict.fromkeys((pair.fingerprint, pair.module) for pair in pairs):
        keys = {p.key for p in pairs if (p.fingerprint, p.module) == (fingerprint, module)}
        BaselineStore(root, fingerprint).forget(module, keys)


def _seed(options: argparse.Namespace) -> int:
    arguments = options.arguments[options.arguments[:1] == ["--"] :]
    results = []
    with tempfile.TemporaryDirectory(prefix="pytest-llmperf-seed-") as folder:
        for number in range(SEEDS):
            began = time.monotonic()
            result = _run_pytest(arguments, Path(folder) / str(number), number)
            results.append(result)
            took = time.monotonic() - began
            print(
                f"run {number + 1} of {SEEDS}: {len(_valid(result))} pairs, {took:.0f} s",
                file=sys.stderr,
            )
    return _record_seed(options, results)


def _run_pytest(arguments: Sequence[str], folder: Path, number: int) -> RunResult:
    """One run, compared with nothing: with baselines, it would look again at what is suspect."""
    folder.mkdir()
    out = folder / "result.json"
    ours = ["--llmperf", f"--llmperf-baselines={folder / 'none'}", f"--llmperf-json={out}"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *ours, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    told = f"pytest ended with exit code {ran.returncode}. It said:\n{ran.stdout}"
    if ran.returncode not in _PYTEST_RAN or not out.exists():
        raise _Wrong(f"run {number + 1} of {SEEDS} failed, nothing was recorded: {told}")
    result, _ = _read_result(out)
    if not _valid(result):
        raise _Wrong(f"run {number + 1} of {SEEDS} measured nothing: {told}")
    return result


def _record_seed(options: argparse.Namespace, results: Sequence[RunResult]) -> int:
    commit, by = _commit(), _user()
    runs = []
    for number, result in enumerate(results):
        date = _date(result)
        name = f"{date:%Y%m%dT%H%M%S}-seed-{os.getpid()}-{number}"
        act = Act(session=name, date=date, commit=commit, by=by, accept="seed")
        runs.append((act, _valid(result)))

    def has_baseline(pair: PairResult) -> bool:
        store = BaselineStore(options.baselines, pair.fingerprint)
        return bool(store.read(pair.module).of(pair.key).epochs)

    told = seed(runs, has_baseline)
    _write(options.baselines, told.lines)
    groups = {"seeded": told.seeded, "left_alone": told.left_alone, "left_out": told.left_out}
    if options.json:
        _print_json({what: [_named(each) for each in pairs] for what, pairs in groups.items()})
        return 0
    for what, why in (
        ("seeded", f"seeded with {len(results)} runs"),
        ("left_alone", "left alone, it has a baseline"),
        ("left_out", "left out, it was not measured in every run"),
    ):
        for pair in groups[what]:
            _say(*_wrapped(f"{why}: {pair.module}::{pair.key.test} {pair.key.metric}"))
    return 0


def _named(pair: PairResult) -> dict[str, object]:
    return {"fingerprint": pair.fingerprint, "module": pair.module, "key": pair.key}


# Files of results


def _import(options: argparse.Namespace) -> int:
    result, digest = _read_result(options.file)
    pairs = [msgspec.structs.replace(pair, normal=None) for pair in _valid(result)]
    if not pairs:
        raise _Wrong(f"{options.file}: no pair was measured in this run", NOTHING)
    date = _date(result)
    # Named after the file's contents: imported twice, it is still one session.
    name = f"{date:%Y%m%dT%H%M%S}-{digest}"
    record(
        options.baselines, pairs, Act(session=name, date=date, commit=options.commit, by=_user())
    )
    if options.json:
        _print_json({"session": name, "recorded": [pair.key for pair in pairs]})
        return 0
    _say(
        f"recorded: {len(pairs)} pair{'s'[: len(pairs) > 1]} in {options.baselines}, session {name}"
    )
    return 0


def _export(options: argparse.Namespace) -> int:
    result, _ = _read_result(options.file)
    exported = to_pytest_benchmark(result, options.commit)
    try:
        options.out.write_bytes(
            msgspec.json.format(msgspec.json.encode(exported), indent=4) + b"\n"
        )
    except OSError as error:
        raise _Wrong(f"{options.out}: cannot be written: {error.strerror}") from error
    if options.json:
        _print_json({"written": str(options.out)})
    else:
        _say(f"written: {options.out}")
    return 0


class _Head(msgspec.Struct):
    format: str
    version: int


def _read_result(path: Path) -> tuple[RunResult, str]:
    """A result file and a digest of it. Raises _Wrong."""
    try:
        data = path.read_bytes()
        head = msgspec.json.decode(data, type=_Head)
        if (head.format, head.version) != (FORMAT, VERSION):
            raise _Wrong(
                f"{path}: is {head.format} {head.version}, this release reads {FORMAT} {VERSION}"
            )
        return msgspec.json.decode(data, type=RunResult), hashlib.sha256(data).hexdigest()[:8]
    except OSError as error:
        raise _Wrong(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"{path}: no result of --llmperf-json: {error}") from error


def _valid(result: RunResult) -> list[PairResult]:
    """Every pair of a measurement that means something."""
    return [
        pair
        for test in result.tests
        for judged in test.measurements
        if judged.verdict is not Verdict.INVALID
        for pair in judged.pairs
        if pair.looks
    ]


def _date(result: RunResult) -> datetime.datetime:
    try:
        date = datetime.datetime.fromisoformat(result.created)
    except ValueError as error:
        raise _Wrong(f"the result's date cannot be read: {error}") from error
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)


def _user() -> str:
    actor = os.environ.get("GITHUB_ACTOR")
    if actor:
        return actor
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"user {os.getuid()}"


def _commit() -> str | None:
    """The commit that is checked out here; None where there is no git, or no commit."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()
