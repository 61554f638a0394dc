"""pytest-llmperf …: the same facts without pytest."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence

from pytest_llmperf.cli import baseline, compare, doctor, history, run, selftest

USAGE = 2
TOOL_FAILED = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 good, 1 a gate failed, 2 usage, 3 nothing measured, 4 the tool or the environment failed.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return TOOL_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pytest-llmperf",
        description="Look at this machine, its engines and its models. To gate: pytest --llmperf",
    )
    version = importlib.metadata.version("pytest-llmperf")
    parser.add_argument("--version", action="version", version=f"pytest-llmperf {version}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    doctor.add_command(commands)
    run.add_command(commands)
    compare.add_command(commands)
    baseline.add_command(commands)
    history.add_command(commands)
    selftest.add_command(commands)
    return parser
