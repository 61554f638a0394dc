"""Does what an engine says of a sequence get to the host as it was said, or not at all?"""

from __future__ import annotations

import array
from pathlib import Path

import pytest

from pytest_llmperf.backends import EngineRefused, LogProbs
from pytest_llmperf.worker.messages import Score
from pytest_llmperf.worker.scores import score

TOKENS = [5, 6, 7, 8]


def asked(path: Path, first: int = 1) -> Score:
    return Score(token_ids=TOKENS, first=first, path=str(path / "logits"))


def test_logits_come_through_the_file_from_the_first_that_counts(tmp_path: Path) -> None:
    rows = array.array("f", range(8))
    found = score(rows, asked(tmp_path), vocab_size=2)
    assert (found.rows, found.columns, found.log_probs) == (3, 2, None)
    kept = array.array("f")
    kept.frombytes((tmp_path / "logits").read_bytes())
    assert list(kept) == [2, 3, 4, 5, 6, 7]


def test_log_probabilities_are_those_of_the_tokens_after_the_first_that_counts(
    tmp_path: Path,
) -> None:
    said = LogProbs(told=[-1.0, -2.0, -3.0], likeliest=[1, 2, 3])
    found = score(said, asked(tmp_path), vocab_size=2)
    assert found.log_probs == LogProbs(told=[-2.0, -3.0], likeliest=[2, 3])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (array.array("d", [0.0] * 8), "64 bytes of type 'd' for 4 tokens: float32 is wanted"),
        (array.array("f", [0.0] * 4), "float32 is wanted, 2 or more for each"),
        (LogProbs(told=[-1.0] * 4, likeliest=[1] * 3), "4 and 3 for 4 tokens: 3 are wanted"),
    ],
)
def test_what_is_neither_is_refused(said: object, why: str, tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match=why):
        score(said, asked(tmp_path), vocab_size=2)
