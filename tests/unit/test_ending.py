"""Is the end of a process told in words, with the last that it wrote?"""

from __future__ import annotations

import io
import signal

import pytest

from pytest_llmperf.ending import exit_clause, exit_name, last_line, last_words


@pytest.mark.parametrize(
    ("exit_code", "name"),
    [
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-signal.SIGILL, "killed by SIGILL"),
        (-40, "killed by signal 40"),
        (3, "exited with code 3"),
        (0, "exited with code 0"),
    ],
)
def test_exit_names(exit_code: int, name: str) -> None:
    assert exit_name(exit_code) == name


def test_an_end_told_after_the_name_of_the_process() -> None:
    assert exit_clause(-signal.SIGSEGV) == "was killed by SIGSEGV"
    assert exit_clause(3) == "exited with code 3"


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (b"", ""),
        (b"\n \n", ""),
        (b"one", "one"),
        (b"greeting\n  the answer \n\n", "the answer"),
        (b"caf\xc3\n", "caf\ufffd"),
    ],
)
def test_the_last_line_that_says_something(written: bytes, line: str) -> None:
    assert last_line(io.BytesIO(written)) == line


def test_last_words_are_the_end_of_a_clause_and_not_longer_than_a_screen_row_or_three() -> None:
    assert last_words(io.BytesIO(b"")) == ""
    assert last_words(io.BytesIO(b"no memory\n")) == ' (last words: "no memory")'
    assert last_words(io.BytesIO(b"x" * 999)) == f' (last words: "{"x" * 200}")'
