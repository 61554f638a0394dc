"""How does a new test get a provisional baseline in one go?"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_llmperf.cli.answer import Wrong, complain, print_json, say, wrapped
from pytest_llmperf.cli.progress import Progress
from pytest_llmperf.cli.results import date_of, read_result
from pytest_llmperf.gate.baseline_acts import seed
from pytest_llmperf.gate.baseline_file import BaselineStore, write_lines
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.recording import Act
from pytest_llmperf.origin import commit, user
from pytest_llmperf.report.result import RunResult, valid_pairs

SEEDS = 5
_PROGRESS = "llmperf: "
"""Lines in which a run without a terminal says what it is doing."""
_PYTEST_RAN = {0, 1}
"""pytest's exit codes after which what it measured stands: all is well, tests failed."""


def seed_pairs(options: argparse.Namespace) -> int:
    """Run the tests several times, and begin a baseline for those without one."""
    arguments = options.arguments[options.arguments[:1] == ["--"] :]
    results, tell = [], Progress("baseline seed")
    with tempfile.TemporaryDirectory(prefix="pytest-llmperf-seed-") as folder:
        for number in range(SEEDS):
            began = time.monotonic()
            result = _run_pytest(arguments, Path(folder) / str(number), number, tell)
            tell("")
            results.append(result)
            took = time.monotonic() - began
            pairs = len(valid_pairs(result.tests))
            complain(f"run {number + 1} of {SEEDS}: {pairs} pairs, {took:.0f} s")
    return _record_seed(options, results)


def _run_pytest(
    arguments: Sequence[str], folder: Path, number: int, tell: Callable[[str], None]
) -> RunResult:
    """One run, compared with nothing: with baselines, it would look again at what is suspect."""
    folder.mkdir()
    out = folder / "result.json"
    places = [f"--llmperf-baselines={folder / 'none'}", f"--llmperf-json={out}"]
    ours = ["--llmperf", "--llmperf-github=off", *places]
    which = f"run {number + 1} of {SEEDS}"
    tell(f"{which}: pytest starts")
    command = [sys.executable, "-m", "pytest", *ours, *arguments]
    exit_code, said = listen(command, lambda at: tell(f"{which}: {at}"))
    told = f"pytest ended with exit code {exit_code}. It said:\n{said}"
    if exit_code not in _PYTEST_RAN or not out.exists():
        raise Wrong(f"{which} failed, nothing was recorded: {told}")
    result = read_result(out)
    if not valid_pairs(result.tests):
        raise Wrong(f"{which} measured nothing: {told}")
    return result


def listen(command: Sequence[str], tell: Callable[[str], None]) -> tuple[int, str]:
    """Run pytest and tell its progress; its exit code, and all that it said."""
    lines = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            lines.append(line)
            if line.startswith(_PROGRESS):
                tell(line.removeprefix(_PROGRESS).rstrip())
    return running.returncode, "".join(lines)


def _record_seed(options: argparse.Namespace, results: Sequence[RunResult]) -> int:
    head, by = commit(Path.cwd()), user()
    runs = []
    for number, result in enumerate(results):
        date = date_of(result)
        name = f"{date:%Y%m%dT%H%M%S}-seed-{os.getpid()}-{number}"
        act = Act(session=name, date=date, commit=head, by=by, accept="seed")
        runs.append((act, valid_pairs(result.tests)))

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
