"""How do files of results become baselines, and go elsewhere: import, export?"""

from __future__ import annotations

import argparse
import hashlib

import msgspec

from pytest_llmperf.cli.answer import NOTHING, Wrong, print_json, say
from pytest_llmperf.cli.results import date_of, read_result, valid_pairs
from pytest_llmperf.gate.recording import Act, record
from pytest_llmperf.origin import user
from pytest_llmperf.report.pytest_benchmark import to_pytest_benchmark


def import_result(options: argparse.Namespace) -> int:
    """Record the sessions of a result file."""
    result = read_result(options.file)
    digest = hashlib.sha256(options.file.read_bytes()).hexdigest()[:8]
    pairs = [msgspec.structs.replace(pair, normal=None) for pair in valid_pairs(result)]
    if not pairs:
        raise Wrong(f"{options.file}: no pair was measured in this run", NOTHING)
    date = date_of(result)
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
