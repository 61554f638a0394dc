"""pytest-llmperf …: the same facts without pytest."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import select
import sys
from collections.abc import Sequence
from typing import NoReturn

from pytest_llmperf.cli.answer import TOOL_FAILED, USAGE, complain

COMMANDS = (
    "doctor",
    "plan",
    "run",
    "compare",
    "reference",
    "baseline",
    "history",
    "report",
    "tradeoff",
    "cache",
    "selftest",
)
READER_LEFT = 128 + 13
"""As of a program that SIGPIPE ended: whoever read its output has seen enough."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 good, 1 a gate failed, 2 usage, 3 nothing measured, 4 the tool or the environment failed,
    141 nobody reads any more.
    """
    try:
        return _run(arguments)
    except BrokenPipeError:
        if not _reader_left():
            raise
        return READER_LEFT


def _run(arguments: Sequence[str] | None) -> int:
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        options = _parser(given).parse_args(given)
        return int(options.run(options))
    except KeyboardInterrupt:
        complain("interrupted")
        return TOOL_FAILED
    finally:
        sys.stdout.flush()  # here, and not at the interpreter's exit, which could only complain


def _reader_left() -> bool:
    """Whether it was our own output that broke; what is left of it then goes nowhere."""
    left = False
    for stream in (sys.stdout, sys.stderr):
        output = select.poll()
        output.register(stream, 0)
        if output.poll(0):  # an error is reported whether it was asked for or not
            left = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return left


class _Parser(argparse.ArgumentParser):
    """Its errors are as wide as all messages; so are those of the commands it declares."""

    def error(self, message: str) -> NoReturn:
        """Say how the command is used, and what is wrong."""
        self.print_usage(sys.stderr)
        complain(f"{self.prog}: error: {message}")
        self.exit(USAGE)


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Declares the command that is asked for, or all: importing them takes longer than a plan."""
    asked = next((each for each in given if not each.startswith("-")), None)
    parser: argparse.ArgumentParser = _Parser(
        prog="pytest-llmperf",
        description="Look at this machine, its engines and its models. To gate: pytest --llmperf",
    )
    version = importlib.metadata.version("pytest-llmperf")
    parser.add_argument("--version", action="version", version=f"pytest-llmperf {version}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in (asked,) if asked in COMMANDS else COMMANDS:
        importlib.import_module(f"pytest_llmperf.cli.{name}").add_command(commands)
    return parser
