"""What is left of the history when its writer is killed at any moment?"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmperf.history import History
from tests.unit.history import METRICS, SAMPLES, url_of

ROOT = Path(__file__).parents[2]
TESTS = 20
"""In a session: enough to spend most of a writer's life in the middle of writing one."""

PROGRAM = """
import os, signal, sys, time, traceback
from pytest_llmperf.history import History
from tests.unit.history import session_of

tests, diary = int(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def write(url, life, begins):
    for number in range(10_000):
        with History.open(url) as history:
            for part in "abc":
                name = f"{life}-{number}-{part}"
                os.write(diary, f"begun {name}\\n".encode())
                os.write(begins, b"!")
                history.record(session_of(tests, name))
                os.write(diary, f"written {name}\\n".encode())

for line in sys.stdin:
    url, life, since, seconds = line.split()
    has_begun, begins = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            write(url, life, begins)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(begins)
    if since == "writing":
        os.read(has_begun, 1)
    time.sleep(float(seconds))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(has_begun)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
"""Gives life to writers and takes it: a fork begins to write at once, a new Python does not."""

HALF = """
SELECT id, invocations, metrics, samples, verdicts FROM (
    SELECT id,
        (SELECT count(*) FROM invocation WHERE session = s.key) AS invocations,
        (SELECT count(*) FROM invocation AS i JOIN value ON invocation = i.key
            WHERE session = s.key) AS metrics,
        (SELECT count(*) FROM invocation AS i JOIN sample ON invocation = i.key
            WHERE session = s.key) AS samples,
        (SELECT count(*) FROM verdict WHERE session = s.key) AS verdicts
    FROM session AS s
) WHERE (invocations, metrics, samples, verdicts) != (?, ?, ?, ?)
"""
WHOLE = (TESTS, TESTS * len(METRICS), TESTS * len(METRICS) * SAMPLES, TESTS * len(METRICS))


class Mortals:
    """Writers that live for a stated time."""

    def __init__(self, process: subprocess.Popen[str], diary: Path) -> None:
        self._process, self._diary = process, diary
        self._seconds = random.Random(4)

    def live(self, file: Path, life: str, since: str, at_most_s: float) -> None:
        """Let one write into ``file``, and kill it some time after its ``birth`` or ``writing``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        seconds = self._seconds.uniform(0, at_most_s)
        self._process.stdin.write(f"{url_of(file)} {life} {since} {seconds}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "-9\n"

    def said(self, word: str, life: str = "") -> set[str]:
        """The sessions that are reported as ``begun`` or ``written``."""
        lines = self._diary.read_text().split("\n")
        return {line.split()[1] for line in lines if line.startswith(f"{word} {life}")}


@pytest.fixture
def mortals(tmp_path: Path) -> Iterator[Mortals]:
    diary = tmp_path / "diary"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(TESTS), str(diary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield Mortals(process, diary)
        finally:
            process.kill()


def check_whole(file: Path) -> set[str]:
    """Open it as the next run would; the sessions in it, of which none is half."""
    with History.open(url_of(file)) as history:
        names = {each.id for each in history.sessions(limit=100_000)}
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute(HALF, WHOLE).fetchall() == []
    return names


def test_a_killed_writer_leaves_whole_sessions_and_all_that_it_reported(
    mortals: Mortals, tmp_path: Path
) -> None:
    file = tmp_path / "history.sqlite3"
    for life in range(150):
        mortals.live(file, f"{life:03d}", "writing", at_most_s=0.04)
        assert mortals.said("written") <= check_whole(file) <= mortals.said("begun")
    assert mortals.said("begun") != mortals.said("written")  # some were struck in the middle


def test_a_writer_killed_while_it_makes_the_tables_leaves_a_file_to_go_on_with(
    mortals: Mortals, tmp_path: Path
) -> None:
    for life in range(50):
        file = tmp_path / f"history-{life}.sqlite3"
        mortals.live(file, f"{life:03d}", "birth", at_most_s=0.03)
        found = check_whole(file)
        assert mortals.said("written", f"{life:03d}") <= found
