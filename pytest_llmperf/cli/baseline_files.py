"""How do files of results become baselines, and go elsewhere: import, export?"""

from __future__ import annotations

import argparse
import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pytest_llmperf.cli.answer import NOTHING, USAGE, Wrong, complain, print_json, say, wrapped
from pytest_llmperf.cli.results import date_of, read_result
from pytest_llmperf.gate.baseline import Baseline
from pytest_llmperf.gate.baseline_file import BaselineStore
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.recording import Act, record
from pytest_llmperf.origin import user
from pytest_llmperf.report import words
from pytest_llmperf.report.pytest_benchmark import to_pytest_benchmark
from pytest_llmperf.report.result import valid_pairs

_DATE = "%Y-%m-%d %H:%M:%S %Z"


def import_result(options: argparse.Namespace) -> int:
    """Record the sessions of a result file, but none under a normal that is newer than it."""
    result = read_result(options.file)
    digest = hashlib.sha256(options.file.read_bytes()).hexdigest()[:8]
    pairs = [msgspec.structs.replace(pair, normal=None) for pair in valid_pairs(result.tests)]
    if not pairs:
        raise Wrong(f"{options.file}: no pair was measured in this run", NOTHING)
    date = date_of(result)
    # Named after the file's contents, so that it is known when it comes again.
    name = f"{date:%Y%m%dT%H%M%S}-{digest}"
    kept = _baselines(options.baselines, pairs)
    if any(session.session == name for baseline in kept for session in baseline.sessions):
        _tell(options, name, f"already recorded in {options.baselines}: session {name}")
        return 0
    refused = [_refusal(each, date) for each in kept]
    fitting = [pair for pair, why in zip(pairs, refused, strict=True) if why is None]
    record(
        options.baselines,
        fitting,
        Act(session=name, date=date, commit=options.commit, by=user()),
    )
    count = words.count(len(fitting), "pair")
    _tell(options, name, f"recorded: {count} in {options.baselines}, session {name}", fitting)
    for why in filter(None, refused):
        complain(f"pytest-llmperf baseline import: {options.file}: {why}")
    return USAGE if any(refused) else 0


def _baselines(root: Path, pairs: Sequence[PairResult]) -> list[Baseline]:
    """What is kept of each pair; every file is read once."""
    places = {(pair.fingerprint, pair.module) for pair in pairs}
    read = {place: BaselineStore(root, place[0]).read(place[1]) for place in places}
    return [read[pair.fingerprint, pair.module].of(pair.key) for pair in pairs]


def _refusal(baseline: Baseline, date: datetime.datetime) -> str | None:
    """Why what was measured then does not belong to what is normal now; None: it does."""
    normal = baseline.epoch
    if normal is None or normal.date <= date:
        return None
    return (
        f"not recorded: {baseline.key.text}: measured at {date:{_DATE}}, before epoch "
        f"{normal.epoch} began at {normal.date:{_DATE}} (accepted by {normal.accepted_by}: "
        f"{normal.reason}). Measure again to add to it"
    )


def _tell(
    options: argparse.Namespace, name: str, text: str, recorded: Sequence[PairResult] = ()
) -> None:
    if options.json:
        print_json({"session": name, "recorded": [pair.key for pair in recorded]})
    else:
        say(*wrapped(text))


def export_result(options: argparse.Namespace) -> int:
    """Write a result file as pytest-benchmark does."""
    result = read_result(options.file)
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
