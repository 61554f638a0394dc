"""Which model does a source mean, and in which quantizations can it be planned?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_llmperf.fit.engines import ENGINES
from pytest_llmperf.fit.subject import find_engine, find_subject
from pytest_llmperf.models import catalogue
from pytest_llmperf.models.errors import (
    BrokenModelFile,
    ModelError,
    ModelNotHere,
    UnknownModel,
    UnknownQuantization,
    UnsupportedModel,
)
from pytest_llmperf.models.presets import PRESETS

LLAMA, TRANSFORMERS = ENGINES["llama-cpp"], ENGINES["transformers"]


@pytest.mark.parametrize("source", ["mistral-7b", "synthetic:mistral-7b", " Mistral-7B "])
def test_a_catalogue_name_in_any_dress(source: str) -> None:
    subject = find_subject(source)
    assert subject.title == "Mistral 7B"
    assert subject.max_context == 32768


@pytest.mark.parametrize("name", PRESETS)
def test_whatever_can_be_loaded_by_name_can_be_planned_by_it(name: str) -> None:
    assert find_subject(f"synthetic:{name}").sizes(LLAMA)


def test_a_folder_of_the_same_name_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mistral-7b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_subject("synthetic:mistral-7b").title == "Mistral 7B"


def test_real_sizes_are_met() -> None:
    """4.37·10⁹ bytes: mistral-7b-v0.1.Q4_K_M.gguf as published."""
    ((name, size),) = find_subject("mistral-7b").sizes(LLAMA, ("q4_k_m",))
    assert name == "Q4_K_M"
    assert size.weights.total == pytest.approx(4.37e9, rel=0.02)


@pytest.mark.parametrize("name", catalogue.known())
def test_every_model_of_the_catalogue_can_be_planned_for_every_engine(name: str) -> None:
    for engine in ENGINES.values():
        sizes = find_subject(name).sizes(engine)
        totals = [size.weights.total for _, size in sizes]
        assert [quantization for quantization, _ in sizes] == list(engine.quantizations)
        assert totals == sorted(totals, reverse=True)


def config_at(folder: Path, **changed: object) -> Path:
    values = {
        "model_type": "llama",
        "vocab_size": 1000,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        **changed,
    }
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return path


def test_a_config_and_its_folder_mean_the_same(tmp_path: Path) -> None:
    path = config_at(tmp_path)
    assert find_subject(str(path)).config == find_subject(str(tmp_path)).config
    assert find_subject(f"synthetic:{path}").max_context == 512


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden_size": None}, "field 'hidden_size' is missing"),
        ({"num_hidden_layers": 0}, "field 'num_hidden_layers' is 0; it must be a positive"),
        ({"model_type": "unheard-of"}, "model_type 'unheard-of' keep is not known here"),
        ({"num_hidden_layers": 2**40}, "no model has more than 10000"),
    ],
)
def test_a_config_that_states_no_model_is_refused_by_its_field(
    changed: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=words):
        find_subject(str(config_at(tmp_path, **changed))).sizes(LLAMA)


def test_what_is_not_here_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"Did you mean mistral-7b\?"):
        find_subject("mistral-7c")
    with pytest.raises(ModelNotHere, match="no such file"):
        find_subject(str(tmp_path / "none.gguf"))
    with pytest.raises(ModelNotHere, match=r"holds no config.json and 0 GGUF files"):
        find_subject(str(tmp_path))
    with pytest.raises(ModelNotHere, match="hf download nobody/nothing"):
        find_subject("hf:nobody/nothing")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(BrokenModelFile):
        find_subject(str(path))


def test_a_quantization_that_the_engine_has_not_is_refused() -> None:
    subject = find_subject("tinyllama-1.1b")
    with pytest.raises(UnknownQuantization, match="Known: F32, BF16, INT8, NF4"):
        subject.sizes(TRANSFORMERS, ("Q4_K_M",))
    with pytest.raises(UnknownQuantization):
        subject.sizes(LLAMA, ("Q99",))


def test_an_engine_that_cannot_be_planned_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="Known: llama-cpp, transformers, onnxruntime, vllm"):
        find_engine("fake")
