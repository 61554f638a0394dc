"""What do the results of a run come to, or of several? For people, programs and pages."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_llmperf.cli.answer import NOTHING, TOOL_FAILED, USAGE, Wrong, complain, print_json, say
from pytest_llmperf.cli.results import read_result
from pytest_llmperf.report import words
from pytest_llmperf.report.annotations import annotate
from pytest_llmperf.report.closing import closing_lines
from pytest_llmperf.report.github import SUMMARY, Untold, append_summary, hushed, is_job
from pytest_llmperf.report.github_summary import headline, summary
from pytest_llmperf.report.html.sessions import Past, kept, past_in
from pytest_llmperf.report.html.writing import missing_parts, write_html
from pytest_llmperf.report.merged import Machine, Overlap, merge, outcome
from pytest_llmperf.report.table import table_text

COMMENT_BYTES = 60_000
"""A comment takes 65,536 characters; whoever posts it may add some of his own."""


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
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help=f"write the summary to FILE, in {COMMENT_BYTES:,} bytes at most: for a comment",
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write one page with charts, that needs no network",
    )
    parser.add_argument(
        "--history",
        metavar="URL",
        help="with --html: a database that may know sessions which the results do not hold",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print or write the report; see :func:`pytest_llmperf.cli.main` for the exit codes.

    What the tests came to is theirs to tell: a red one does not make this fail.
    """
    try:
        if options.history is not None and options.html is None:
            raise Wrong("--history is for --html: name its FILE, too", USAGE)
        machines = read_machines(options.results)
        if options.markdown is not None:
            _write(summary(machines, COMMENT_BYTES), options.markdown)
        if options.html is not None:
            _write_page(machines, options.html, options.history)
        if options.github:
            _tell_github(machines)
        elif options.json:
            print_json({"verdict": outcome(machines), "headline": headline(machines)})
        elif options.markdown is None and options.html is None:
            with hushed(say, is_read=is_job()):
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


def _write_page(machines: Sequence[Machine], path: Path, url: str | None) -> None:
    """Raises Wrong."""
    missing = missing_parts()
    if missing is not None:
        raise Wrong(f"--html {missing}", USAGE)
    try:
        with _past(url) as past:
            write_html(machines, path, past)
    except OSError as error:
        raise Wrong(f"the page cannot be written: {error}", TOOL_FAILED) from error
    complain(f"written: {path}")  # what goes to stdout may be read by a program


@contextmanager
def _past(url: str | None) -> Iterator[Past]:
    """What is known of earlier sessions. Raises Wrong."""
    if url is None:
        yield kept
        return
    from pytest_llmperf.history import History, HistoryError

    try:
        if (missing := History.missing(url)) is not None:
            raise Wrong(f"there is no {missing}", NOTHING)
        with past_in(url) as past:
            yield past
    except HistoryError as error:
        raise Wrong(str(error), TOOL_FAILED) from error


def _tell(machines: Sequence[Machine]) -> None:
    width = shutil.get_terminal_size().columns
    for machine in machines:
        say(f"{words.machine(machine.hardware)}, {machine.created[:10]}")
        if any(each.measurements for each in machine.tests):
            say(table_text(machine.tests, width, color=sys.stdout.isatty()))
        say(*closing_lines(machine.tests, machine.suite_shifts), *machine.notes, "")
    if len(machines) > 1:
        say(f"together: {headline(machines)}")


def _write(text: str, path: Path) -> None:
    """Raises Wrong."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Wrong(f"{path}: cannot be written: {error.strerror}") from error


def _tell_github(machines: Sequence[Machine]) -> None:
    """Raises Wrong where the summary cannot be written; the annotations are printed."""
    is_page = bool(os.environ.get(SUMMARY))
    trouble = ""
    if is_page:
        try:
            append_summary(machines)
        except Untold as error:
            trouble = str(error)
    for each in annotate(machines, trouble):
        say(str(each))
    if trouble:
        raise Wrong(trouble)
    if not is_page:
        say(summary(machines))
