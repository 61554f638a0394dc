"""Do drafts bring the same tokens sooner: those of a small model, or those that stood there before?

What a draft is worth depends on how often it is right, so prompts are passages of a text, and both
models have read English: random weights tell nothing here. A draft pays where a step of the model
costs much more than one of the draft; the models that are trained here are too small for that
(3.3 and 0.9 million parameters), and the guide's 30 to 40 % are not testable without real weights.
What is: that the tokens are the same, how many are accepted, and that a draft which is never right
is not taken for a speed-up.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import Compare, LoadModel, Measure
from pytest_llmperf.measure import Measurement
from pytest_llmperf.models.trained import find_recipe

from .conftest import Model

Record = Callable[[str, object], None]
# Exact caches and plain attention: several tokens at once are computed as one by one.
EXACT: dict[str, Any] = {"n_ctx": 512, "flash_attn": "off", "type_k": "f32", "type_v": "f32"}
TEXT: dict[str, Any] = {"prompt_tokens": 64, "new_tokens": 64, "prompts": "shipped"}


@pytest.fixture
def speaking(trained_gguf: Model) -> Model:
    """The model that is drafted for."""
    if not trained_gguf["source"].startswith("trained:"):
        pytest.skip("which smaller model shares your model's vocabulary is not known here")
    return trained_gguf


@pytest.fixture
def draft(load_model: LoadModel, speaking: Model) -> str:
    """The file of a model that has read the same texts."""
    del speaking
    return path_of(load_model, "trained:draft")


@pytest.fixture
def bad_draft(load_model: LoadModel, tmp_path: Path) -> str:
    """One of the same shapes that has read nothing."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(find_recipe("draft").config), encoding="utf-8")
    return path_of(load_model, f"synthetic:{config}")


def path_of(load_model: LoadModel, source: str) -> str:
    files = load_model(source, backend="llama-cpp", quantization="F16").files
    assert files is not None
    return files.path


@pytest.mark.quick
@pytest.mark.claim("drafts of a small model bring the same tokens in fewer steps")
@perf(samples=5)
def test_a_draft_brings_the_same_tokens(
    load_model: LoadModel, measure: Measure, speaking: Model, draft: str, record_property: Record
) -> None:
    alone = load_model(**speaking, backend="llama-cpp", **EXACT)
    expected = measure(alone, name="alone", **TEXT)
    drafting = load_model(**speaking, backend="llama-cpp", **EXACT, draft_model=draft, draft_max=4)
    drafted = measure(drafting, name="drafted", **TEXT)
    assert drafted.answer == expected.answer
    record_steps(record_property, drafted, expected)
    # A step brings one token at the least, and five at the most.
    assert drafted.chunk_tokens.median > 1.5


@pytest.mark.claim("a draft that is never accepted is no speed-up")
@perf(samples=5)
def test_a_draft_that_is_never_right_is_slower(
    compare: Compare, speaking: Model, bad_draft: str
) -> None:
    found = compare(
        {},
        {"draft_model": bad_draft, "draft_max": 4},
        **speaking,
        backend="llama-cpp",
        **EXACT,
        **TEXT,
        min_speedup=1.1,
    )
    assert found.b[0].chunk_tokens.median < 1.1


@pytest.mark.claim("what is accepted decides what a draft is worth")
@perf(samples=5)
def test_a_good_draft_is_faster_than_a_bad_one(
    compare: Compare, speaking: Model, draft: str, bad_draft: str
) -> None:
    compare(
        {"draft_model": draft},
        {"draft_model": bad_draft},
        **speaking,
        backend="llama-cpp",
        draft_max=4,
        **EXACT,
        **TEXT,
        min_speedup=1.2,
    )


@pytest.mark.quick
@pytest.mark.claim("prompt lookup brings the same tokens in fewer steps")
@perf(samples=5)
def test_prompt_lookup_brings_the_same_tokens(
    load_model: LoadModel, measure: Measure, trained_gguf: Model, record_property: Record
) -> None:
    alone = load_model(**trained_gguf, backend="llama-cpp", **EXACT)
    expected = measure(alone, name="alone", **TEXT)
    looking = load_model(**trained_gguf, backend="llama-cpp", **EXACT, prompt_lookup_num_tokens=4)
    found = measure(looking, name="looked up", **TEXT)
    assert found.answer == expected.answer
    record_steps(record_property, found, expected)
    assert found.chunk_tokens.median > 1.15


@pytest.mark.claim("transformers: an assistant brings the same tokens in fewer steps")
@perf(samples=5)
def test_an_assistant_of_transformers(
    load_model: LoadModel, measure: Measure, trained_folder: Model, record_property: Record
) -> None:
    if not trained_folder["source"].startswith("trained:"):
        pytest.skip("which smaller model shares your model's vocabulary is not known here")
    files = load_model("trained:draft", backend="transformers", quantization="F32").files
    assert files is not None
    exact: dict[str, Any] = {**trained_folder, "backend": "transformers", "quantization": "F32"}
    expected = measure(load_model(**exact), name="alone", **TEXT)
    model = load_model(
        **exact,
        assistant_model=files.path,
        num_assistant_tokens=4,
        assistant_confidence_threshold=0.0,
    )
    drafted = measure(model, name="drafted", **TEXT)
    assert drafted.answer == expected.answer
    record_steps(record_property, drafted, expected)
    assert drafted.chunk_tokens.median > 1.5


@pytest.mark.claim("drafts take 30 to 40 % off the latency")
def test_the_latency_of_large_models() -> None:
    pytest.skip(
        "not testable on random weights: a draft is right as often as two real models agree"
    )


def record_steps(record: Record, drafted: Measurement, alone: Measurement) -> None:
    """Both draft four tokens a step; what is accepted of them comes beside the model's own."""
    accepted = (drafted.chunk_tokens.median - 1) / 4
    record("tokens a step", f"{drafted.chunk_tokens.median:.2f}")
    record("accepted", f"{accepted:.0%}")
    record("speed ÷ alone", f"{drafted.decode_tps.median / alone.decode_tps.median:.2f}")
