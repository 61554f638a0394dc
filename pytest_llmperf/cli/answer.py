"""How does a command answer: in words, as JSON, or with what is wrong and an exit code?"""

from __future__ import annotations

import json
import sys
import textwrap

import msgspec

from pytest_llmperf.cli.plot import printable

USAGE = 2
NOTHING = 3
TOOL_FAILED = 4
WIDTH = 80


class Wrong(Exception):
    """The command cannot do what was asked; carries the exit code."""

    def __init__(self, message: str, exit_code: int = TOOL_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(*lines: str) -> None:
    """Print lines as far as the terminal's encoding can."""
    print("\n".join(printable(line, sys.stdout.encoding) for line in lines), flush=True)


def complain(text: str) -> None:
    """Say on stderr what is wrong. Paths stay whole: they are there to be copied."""
    lines = [part for line in text.splitlines() for part in _folded(line)]
    print(printable("\n".join(lines), sys.stderr.encoding), file=sys.stderr, flush=True)


def _folded(line: str) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    words = line.lstrip()
    return wrapped(words, line[: len(line) - len(words)], break_long_words=False)


def print_json(anything: object) -> None:
    """Print facts for programs."""
    print(json.dumps(msgspec.to_builtins(anything), indent=1))


def wrapped(text: str, indent: str = "", *, break_long_words: bool = True) -> list[str]:
    """Lines of a terminal of 80 columns."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=break_long_words,
        break_on_hyphens=False,
    )
