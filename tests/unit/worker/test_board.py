"""Does the host see in which phase the worker is, in the words of a report?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmperf.backends.timeline import Timeline
from pytest_llmperf.worker.board import Board, Phase


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "board", create=True)
    yield board
    board.close()


@pytest.mark.parametrize(
    ("phase", "tokens", "words"),
    [
        (Phase.START, 0, "start"),
        (Phase.IMPORT, 0, "import"),
        (Phase.LOAD, 0, "load"),
        (Phase.IDLE, 9, "waiting for work"),
        (Phase.GENERATE, 0, "prefill"),
        (Phase.GENERATE, 64, "decode (after 64 tokens)"),
        (Phase.CLOSE, 9, "closing"),
    ],
)
def test_words(board: Board, phase: Phase, tokens: int, words: str) -> None:
    board.marks[0] = tokens
    board.phase = phase
    assert board.describe() == words


def test_a_new_board_is_at_the_start(board: Board) -> None:
    assert board.phase is Phase.START


def test_a_timeline_turns_prefill_into_decode(board: Board) -> None:
    board.phase = Phase.GENERATE
    timeline = Timeline(2, marks=board.marks)
    timeline.start()
    before = board.describe()
    timeline.token(1)
    timeline.token(2)
    assert (before, board.describe()) == ("prefill", "decode (after 2 tokens)")


def test_what_another_process_stored_is_seen_even_after_its_death(
    board: Board, tmp_path: Path
) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pytest_llmperf.worker.board import Board, Phase\n"
        "board = Board(Path(sys.argv[1]), create=False)\n"
        "board.phase = Phase.GENERATE\n"
        "board.marks[0] = 1 << 40\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "board")], check=False)
    assert done.returncode == -9
    assert (board.phase, board.marks[0]) == (Phase.GENERATE, 1 << 40)


def test_a_board_that_the_host_has_not_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Board(tmp_path / "none", create=False)
