"""How does a job of GitHub Actions hear of results? By its page, and by commands in its log.

What others wrote stands in our tables, too: a parameter of a test, the reason of a skip. The runner
takes any line that begins with ``::``, and any ``##[``, for a command (docs.github.com, "Workflow
commands"), so it is told to stop listening while they are printed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_llmperf.report.github_summary import MOST_BYTES, summary
from pytest_llmperf.report.merged import Machine

SUMMARY = "GITHUB_STEP_SUMMARY"


class Untold(Exception):
    """The page cannot be written; the message says why, and where it should have been."""


def append_summary(
    machines: Sequence[Machine], environment: Mapping[str, str] = os.environ
) -> None:
    """Add a summary to the page of the job's step, as far as there is room. Raises Untold."""
    name = environment.get(SUMMARY)
    if not name:
        raise Untold(f"no summary: {SUMMARY} names no file")
    path = Path(name)
    try:
        before = path.read_bytes() if path.exists() else b""
        taken = len(before)
        begin = "" if before.endswith(b"\n") or not before else "\n"
        text = summary(machines, MOST_BYTES - taken - len(begin))
        if not text:
            raise Untold(
                f"no summary: {path} holds {taken} bytes of the {MOST_BYTES} that GitHub takes"
            )
        with path.open("a", encoding="utf-8") as file:
            file.write(begin + text)
    except OSError as error:
        raise Untold(
            f"no summary: it cannot be written, {SUMMARY}={path}: {error.strerror}"
        ) from error


def is_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody reads our output for commands."""
    return environment.get("GITHUB_ACTIONS") == "true"


@contextlib.contextmanager
def hushed(say: Callable[[str], object], *, is_read: bool) -> Iterator[None]:
    """While the block prints, nothing is a command. ``is_read``: whether anything would be."""
    if not is_read:
        yield
        return
    word = secrets.token_hex(16)
    say(f"::stop-commands::{word}")
    try:
        yield
    finally:
        say(f"::{word}::")
