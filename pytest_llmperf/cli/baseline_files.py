"""How do whole results become baselines, and go elsewhere: seed, import, export?"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pytest_llmperf.cli.answer import NOTHING, Wrong, print_json, say, wrapped
from pytest_llmperf.gate.baseline_acts import seed
from pytest_llmperf.gate.baseline_file import BaselineStore, write_lines
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.recording import Act, record
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.origin import commit, user
from pytest_llmperf.report.pytest_benchmark import to_pytest_benchmark
from pytest_llmperf.report.result import FORMAT, VERSION, RunResult

SEEDS = 5
_PYTEST_RAN = {0, 1}
"""pytest's exit codes after which what it measured stands: all is well, tests failed."""


def seed_pairs(options: argparse.Namespace) -> int:
    """Run the tests several times, and begin a baseline for those without one."""
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
        raise Wrong(f"run {number + 1} of {SEEDS} failed, nothing was recorded: {told}")
    result, _ = _read_result(out)
    if not _valid(result):
        raise Wrong(f"run {number + 1} of {SEEDS} measured nothing: {told}")
    return result


def _record_seed(options: argparse.Namespace, results: Sequence[RunResult]) -> int:
    head, by = commit(Path.cwd()), user()
    runs = []
    for number, result in enumerate(results):
        date = _date(result)
        name = f"{date:%Y%m%dT%H%M%S}-seed-{os.getpid()}-{number}"
        act = Act(session=name, date=date, commit=head, by=by, accept="seed")
        runs.append((act, _valid(result)))

    def has_baseline(pair: PairResult) -> bool:
        store = BaselineStore(options.baselines, pair.fingerprint)
        return bool(store.read(pair.module).of(pair.key).epochs)

    told = seed(runs, has_baseline)
    write_lines(options.baselines, told.lines)
    groups = {"seeded": told.seeded, "left_alone": told.left_alone, "left_out": told.left_out}
    if options.json:
        print_json({what: [_named(each) for each in pairs] for what, pairs in groups.items()})
        return 0
    for what, why in (
        ("seeded", f"seeded with {len(results)} runs"),
        ("left_alone", "left alone, it has a baseline"),
        ("left_out", "left out, it was not measured in every run"),
    ):
        for pair in groups[what]:
            say(*wrapped(f"{why}: {pair.module}::{pair.key.test} {pair.key.metric}"))
    return 0


def _named(pair: PairResult) -> dict[str, object]:
    return {"fingerprint": pair.fingerprint, "module": pair.module, "key": pair.key}


# Files of results


def import_result(options: argparse.Namespace) -> int:
    """Record the sessions of a result file."""
    result, digest = _read_result(options.file)
    pairs = [msgspec.structs.replace(pair, normal=None) for pair in _valid(result)]
    if not pairs:
        raise Wrong(f"{options.file}: no pair was measured in this run", NOTHING)
    date = _date(result)
    # Named after the file's contents: imported twice, it is still one session.
    name = f"{date:%Y%m%dT%H%M%S}-{digest}"
    record(options.baselines, pairs, Act(session=name, date=date, commit=options.commit, by=user()))
    if options.json:
        print_json({"session": name, "recorded": [pair.key for pair in pairs]})
        return 0
    say(
        f"recorded: {len(pairs)} pair{'s'[: len(pairs) > 1]} in {options.baselines}, session {name}"
    )
    return 0


def export_result(options: argparse.Namespace) -> int:
    """Write a result file as pytest-benchmark does."""
    result, _ = _read_result(options.file)
    exported = to_pytest_benchmark(result, options.commit)
    try:
        options.out.write_bytes(
            msgspec.json.format(msgspec.json.encode(exported), indent=4) + b"\n"
        )
    except OSError as error:
        raise Wrong(f"{options.out}: cannot be written: {error.strerror}") from error
    if options.json:
        print_json({"written": str(options.out)})
    else:
        say(f"written: {options.out}")
    return 0


class _Head(msgspec.Struct):
    format: str
    version: int


def _read_result(path: Path) -> tuple[RunResult, str]:
    """A result file and a digest of it. Raises Wrong."""
    try:
        data = path.read_bytes()
        head = msgspec.json.decode(data, type=_Head)
        if (head.format, head.version) != (FORMAT, VERSION):
            raise Wrong(
                f"{path}: is {head.format} {head.version}, this release reads {FORMAT} {VERSION}"
            )
        return msgspec.json.decode(data, type=RunResult), hashlib.sha256(data).hexdigest()[:8]
    except OSError as error:
        raise Wrong(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Wrong(f"{path}: no result of --llmperf-json: {error}") from error


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
        raise Wrong(f"the result's date cannot be read: {error}") from error
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
