"""Is every model of the catalogue whole, and does a wrong name find the right one?"""

from __future__ import annotations

import pytest

from pytest_llmperf.models import UnknownModel
from pytest_llmperf.models.catalogue import entry, find, known
from pytest_llmperf.models.layers_hf import layers_of_config
from pytest_llmperf.models.parameters import parameters_of_config
from pytest_llmperf.models.presets import PRESETS

ASKED_FOR = {
    "tinyllama-1.1b",
    "phi-2",
    "mistral-7b",
    "llama-2-7b",
    "llama-2-13b",
    "llama-3.1-8b",
    "qwen3-0.6b",
    "qwen3-1.7b",
    "qwen3-4b",
    "qwen3-8b",
    "qwen3-14b",
    "qwen3-32b",
    "gemma-3-1b",
    "gemma-3-4b",
    "gemma-3-12b",
    "gpt-oss-20b",
    "deepseek-v2-lite",
    "opt-350m",
    "opt-1.3b",
}


def test_the_models_that_people_ask_for_are_there() -> None:
    assert set(known()) >= ASKED_FOR


@pytest.mark.parametrize("name", known())
def test_every_entry_can_be_sized_and_says_where_it_is_from(name: str) -> None:
    config = find(name)
    found = layers_of_config(config)
    assert found.layers
    assert found.max_context is not None
    assert parameters_of_config(config).total > 10**8
    assert config.origin == entry(name).source
    assert config.origin.startswith("https://huggingface.co/")
    assert entry(name).title


def test_a_preset_is_read_and_not_said_again() -> None:
    both = [name for name in known() if name in PRESETS]
    assert len(both) == 5
    for name in both:
        assert entry(name).config is None
        assert find(name).values is PRESETS[name]


def test_a_name_in_any_case() -> None:
    assert find(" Llama-3.1-8B ") == find("llama-3.1-8b")


def test_an_unknown_name_lists_the_nearest_and_all() -> None:
    with pytest.raises(UnknownModel, match=r"'gemma-3-4'\. Did you mean gemma-3-4b\?.*opt-1\.3b;"):
        find("gemma-3-4")
    with pytest.raises(UnknownModel, match=r"'zzz'\. Known: tinyllama"):
        find("zzz")
