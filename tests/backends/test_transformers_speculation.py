"""Are drafted tokens of transformers those of decoding one by one, only sooner?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_llmperf.backends import Request
from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.messages import Generated
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load
from tests.faults.processes import answer_to, generate, prompt

pytestmark = pytest.mark.engine

REPEATED = [5, 6] * 20
"""After which a model of random weights repeats itself for a while."""


def assistant(quantization: str = "F32") -> str:
    """An assistant's folder: the model itself, in another type."""
    return resolve(ModelSpec("synthetic:llama-15m", quantization), "hf").path


def accepted(model: LoadedModel) -> tuple[int, int]:
    """Accepted and drafted tokens of the last request, by the worker's log."""
    told = re.findall(
        r"speculation: \d+ tokens in \d+ steps, (\d+) of (\d+) drafted",
        model.worker.log.read_text(errors="replace"),
    )
    return int(told[-1][0]), int(told[-1][1])


def is_whole(answer: Generated, new_tokens: int) -> bool:
    """Whether counts, ids, chunks and instants tell of the same tokens."""
    counts = (answer.count, len(answer.token_ids), sum(answer.chunk_tokens))
    return counts == (new_tokens,) * 3 and len(answer.chunk_tokens) == len(answer.instants_ns)


def test_an_assistant_changes_no_token(load: Load) -> None:
    plain = load("transformers", quantization="F32")
    assisted = load(
        "transformers",
        quantization="F32",
        assistant_model=assistant(),
        num_assistant_tokens=4,
        assistant_confidence_threshold=0.0,
    )
    assert (assisted.options["num_assistant_tokens"], assisted.engine.batch) == (4, 1)
    for seed in range(4):
        answer = generate(assisted, prompt(40, seed), 24)
        assert answer.token_ids == generate(plain, prompt(40, seed), 24).token_ids
        assert is_whole(answer, 24)
        right, drafts = accepted(assisted)
        assert len(answer.chunk_tokens) == 24 - right
        assert 0 < right <= drafts
    assert max(generate(assisted, prompt(40), 24).chunk_tokens) == 5


def test_what_was_not_said_of_an_assistant_is_reported_as_transformers_has_it(load: Load) -> None:
    """Its usual threshold stops a model of random weights, which is sure of nothing, at once."""
    assisted = load("transformers", quantization="F32", assistant_model=assistant())
    assert assisted.options["num_assistant_tokens"] == 20
    assert assisted.options["assistant_confidence_threshold"] == 0.4
    assert max(generate(assisted, prompt(40), 24).chunk_tokens) <= 3


def test_prompt_lookup_changes_no_token(load: Load) -> None:
    plain = load("transformers", quantization="F32")
    looking = load("transformers", quantization="F32", prompt_lookup_num_tokens=4)
    answer = generate(looking, REPEATED, 64)
    assert answer.token_ids == generate(plain, REPEATED, 64).token_ids
    assert is_whole(answer, 64)
    right, drafts = accepted(looking)
    assert len(answer.chunk_tokens) == 64 - right
    assert 0 < right < drafts
    assert any("depends on the text" in each for each in looking.engine.random_caveats)


def test_tokens_read_ahead_are_refused(load: Load) -> None:
    looking = load("transformers", quantization="F32", prompt_lookup_num_tokens=4)
    with pytest.raises(EngineRefusal, match="ask for depth=0"):
        answer_to(looking, Request(prompts=[prompt(40)], new_tokens=4, depth=20))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"assistant_model": "/nowhere"}, "assistant_model=/nowhere is not a folder"),
        ({"num_assistant_tokens": 3}, "num_assistant_tokens needs an assistant_model"),
        ({"max_matching_ngram_size": 3}, "max_matching_ngram_size needs prompt_lookup"),
        (
            {"prompt_lookup_num_tokens": 3, "assistant_model": "/nowhere"},
            "both draft tokens: leave one out",
        ),
        (
            {"prompt_lookup_num_tokens": 3, "cache_implementation": "static"},
            "cannot take drafted tokens back",
        ),
    ],
)
def test_drafting_that_cannot_be_is_refused(
    options: dict[str, object], words: str, load: Load
) -> None:
    with pytest.raises(EngineRefusal, match=words):
        load("transformers", **options)


def test_an_assistant_of_another_vocabulary_is_refused_with_both(
    load: Load, tmp_path: Path
) -> None:
    config = json.loads((Path(assistant()) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 512}))
    other = resolve(ModelSpec(f"synthetic:{tmp_path / 'config.json'}", "F32"), "hf").path
    with pytest.raises(EngineRefusal, match="has 512 tokens in its vocabulary, the model 32000"):
        load("transformers", quantization="F32", assistant_model=other)
