"""How did a process end, and what was the last that it wrote?"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import IO

_LAST_WORDS = 200
"""Characters of the last line that are quoted, the end of it."""


def exit_name(exit_code: int) -> str:
    """``killed by SIGSEGV`` or ``exited with code 3``."""
    if exit_code < 0:
        try:
            return f"killed by {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"killed by signal {-exit_code}"
    return f"exited with code {exit_code}"


def exit_clause(exit_code: int) -> str:
    """The same after the name of the process: ``was killed by SIGSEGV``."""
    return f"was {exit_name(exit_code)}" if exit_code < 0 else exit_name(exit_code)


def last_line(stream: IO[bytes]) -> str:
    """The last line that is not blank; interpreters print greetings of their own before ours."""
    stream.seek(0)
    return next(reversed(list(_lines(stream))), "")


def last_words(stream: IO[bytes]) -> str:
    """A process's last line as the end of a clause: `` (last words: "no memory")``, or nothing."""
    words = last_line(stream)[-_LAST_WORDS:]
    return f' (last words: "{words}")' if words else ""


def _lines(stream: IO[bytes]) -> Iterator[str]:
    for line in stream:
        text = line.decode("utf-8", "replace").strip()
        if text:
            yield text
