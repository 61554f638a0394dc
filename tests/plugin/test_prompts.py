"""Are prompts taken from a text where a test asks for one?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import Run

DRAFTS = """
def test_it(load_model, measure):
    model = load_model("fake:any", backend="fake", n_ctx=64, chunk_tokens=2)
    seen = measure(model, prompt_tokens=8, new_tokens=8, prompts={prompts!r})
    assert seen.chunk_tokens.median == 2
    assert len(seen.answer) == 8
"""


def measured(pytester: pytest.Pytester) -> dict[str, Any]:
    told = json.loads((pytester.path / "result.json").read_bytes())
    (found,) = [each["measurement"] for each in told["tests"][0]["measurements"]]
    return dict(found)


def test_a_text_is_in_the_result_and_in_the_table(llmperf: Run, pytester: pytest.Pytester) -> None:
    result = llmperf(DRAFTS.format(prompts="shipped"), "--llmperf-json=result.json")
    assert result.ret == 0
    assert measured(pytester)["workload"]["prompts"] == "shipped"


def test_a_text_of_ones_own(llmperf: Run, tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("so many words " * 99)
    assert llmperf(DRAFTS.format(prompts=str(text))).ret == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no such file; 'shipped' is the one that comes with us"),
        (b"short", "has 5 tokens, and so 0 prompts of 8: too few for request 1 of a batch of 1"),
        (b"ten short words", "8 prompts of 8: too few for request 9 of a batch of 1"),
        (b"\xff\xfe" * 20, "can't decode byte 0xff"),
    ],
)
def test_a_text_that_cannot_be_used_is_named(
    llmperf: Run, tmp_path: Path, content: bytes | None, why: str
) -> None:
    text = tmp_path / "mine.txt"
    if content is not None:
        text.write_bytes(content)
    result = llmperf(DRAFTS.format(prompts=str(text)))
    result.assert_outcomes(failed=1)
    assert why in result.stdout.str()
    assert "mine.txt" in result.stdout.str()


def test_prompts_of_a_wrong_kind_are_named(llmperf: Run) -> None:
    result = llmperf(DRAFTS.format(prompts=3))
    result.assert_outcomes(failed=1)
    assert "prompts must be 'random', 'shipped' or the path of a text, not 3" in result.stdout.str()
