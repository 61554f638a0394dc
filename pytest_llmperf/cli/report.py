"""What do the results of a run come to, or of several? For a terminal, or for GitHub's pages."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_llmperf.cli.answer import TOOL_FAILED, USAGE, Wrong, complain, say
from pytest_llmperf.cli.results import read_result
from pytest_llmperf.report import words
from pytest_llmperf.report.annotations import Annotation, annotate
from pytest_llmperf.report.closing import closing_lines
from pytest_llmperf.report.github_summary import MOST_BYTES, headline, summary
from pytest_llmperf.report.merged import Machine, Overlap, merge
from pytest_llmperf.report.table import table_text

SUMMARY = "GITHUB_STEP_SUMMARY"


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    told = "files of results, merged by machine: for a terminal, or a job of GitHub Actions"
    parser = commands.add_parser("report", help=told, description=told)
    parser.add_argument("results", type=Path, nargs="+", help="what --llmperf-json wrote")
    parser.add_argument(
        "--github",
        action="store_true",
        help=f"append a summary to the file that {SUMMARY} names, and print annotations",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print or write the report; see :func:`pytest_llmperf.cli.main` for the exit codes.

    What the tests came to is theirs to tell: a red one does not make this fail.
    """
    try:
        machines = read_machines(options.results)
        if options.github:
            _tell_github(machines)
        else:
            _tell(machines)
    except Wrong as error:
        complain(f"pytest-llmperf report: {error}")
        return error.exit_code
    return 0


def read_machines(paths: Sequence[Path]) -> list[Machine]:
    """Raises Wrong."""
    if len(set(paths)) < len(paths):
        raise Wrong("a file is given twice", USAGE)
    try:
        return merge({str(path): read_result(path) for path in paths})
    except Overlap as error:
        raise Wrong(str(error), USAGE) from None


def _tell(machines: Sequence[Machine]) -> None:
    width = shutil.get_terminal_size().columns
    for machine in machines:
        say(f"{words.machine(machine.hardware)}, {machine.created[:10]}")
        if any(each.measurements for each in machine.tests):
            say(table_text(machine.tests, width, color=sys.stdout.isatty()))
        say(*closing_lines(machine.tests, machine.suite_shifts), *machine.notes, "")
    if len(machines) > 1:
        say(f"together: {headline(machines)}")


def _tell_github(machines: Sequence[Machine]) -> None:
    """Raises Wrong where the summary cannot be written; the annotations are printed before."""
    say(*map(str, annotate(machines)))
    name = os.environ.get(SUMMARY)
    if not name:
        say(summary(machines))
        return
    path = Path(name)
    try:
        taken = path.stat().st_size if path.exists() else 0
        text = summary(machines, MOST_BYTES - taken)
        if not text:
            raise Wrong(
                f"{path} holds {taken} bytes of the {MOST_BYTES} that GitHub takes", TOOL_FAILED
            )
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        say(str(Annotation("warning", "llmperf", f"no summary: {error}")))
        raise Wrong(f"the summary cannot be written, {SUMMARY}={path}: {error.strerror}") from error
