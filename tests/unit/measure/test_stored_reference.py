"""Is a stored reference read without trust: is whatever it is not a BadReference, in words?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pytest_llmperf.measure.scoring import Passage
from pytest_llmperf.measure.stored_reference import FORMAT, VERSION, BadReference, StoredReference

TOKENS, VOCABULARY = 8, 5
PASSAGE = Passage("text", (tuple(range(TOKENS)),), 1.0)
SCORED = (TOKENS // 2, VOCABULARY)
HEAD = {
    "format": FORMAT,
    "version": VERSION,
    "model": "fake",
    "text": "text",
    "passage": PASSAGE.digest,
    "windows": 1,
    "window_tokens": TOKENS,
    "vocab_size": VOCABULARY,
}


def stored(path: Path, window: np.ndarray, **changes: object) -> Path:
    head = np.frombuffer(json.dumps(HEAD | changes).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, head=head, window_0=window)
    return path


def test_a_window_is_read_as_float32(tmp_path: Path) -> None:
    window = -np.ones(SCORED, np.float16)
    reference = StoredReference(stored(tmp_path / "file", window))
    assert reference.window_tokens == TOKENS
    found = reference.logits(PASSAGE, 0)
    assert found.dtype == np.float32
    assert (found == -1).all()


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (np.zeros(SCORED, np.float32), "window_0 holds float32, not float16"),
        (np.zeros(SCORED, np.int16), "window_0 holds int16, not float16"),
        (np.zeros((9, VOCABULARY), np.float16), "window_0 has the shape (9, 5), not (4, 5)"),
        (np.full(SCORED, np.nan, np.float16), "window_0 holds what is no finite number"),
        (np.full(SCORED, -np.inf, np.float16), "window_0 holds what is no finite number"),
    ],
)
def test_a_window_that_cannot_be_is_named(tmp_path: Path, window: np.ndarray, said: str) -> None:
    reference = StoredReference(stored(tmp_path / "file", window))
    with pytest.raises(BadReference) as refused:
        reference.logits(PASSAGE, 0)
    assert said in str(refused.value)
    assert "pytest-llmperf reference MODEL file makes one" in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"window_tokens": 0},
        {"window_tokens": -1},
        {"windows": 0},
        {"vocab_size": 0},
        {"vocab_size": "many"},
    ],
)
def test_a_head_with_numbers_that_cannot_be(tmp_path: Path, changes: dict[str, object]) -> None:
    path = stored(tmp_path / "file", np.zeros(SCORED, np.float16), **changes)
    with pytest.raises(BadReference, match=f"no stored reference.*{next(iter(changes))}"):
        StoredReference(path)


def test_a_plain_array_is_no_reference(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(BadReference, match="no stored reference, or not all of one"):
        StoredReference(tmp_path / "file")
