from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.models import InvalidSource, ModelSpec, UnknownQuantization
from pytest_llmperf.models.quantization import find_quantization, name_of_ftype, require_makeable
from pytest_llmperf.models.spec import hub_parts


def test_equal_requests_are_one_model() -> None:
    specs = {ModelSpec("synthetic:a", name) for name in ("q4_k_m", "Q4_K_M", "Q4_K", "q4-k-m")}
    assert specs == {ModelSpec("synthetic:a", "Q4_K_M")}
    assert ModelSpec("synthetic:a", seed=1) not in specs


def test_a_spec_survives_the_wire() -> None:
    spec = ModelSpec("hf:org/name@main", "Q8_0", 3)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ModelSpec) == spec


@pytest.mark.parametrize("source", ["", "  ", "synthetic:", "hf:", "hf:name", "hf:org/../x"])
@pytest.mark.parametrize("tail", ["", "@../../etc", "@"])
def test_a_source_that_names_nothing_is_refused(source: str, tail: str) -> None:
    if source.startswith("hf:") or not tail:
        with pytest.raises(InvalidSource, match="hf:org/name"):
            ModelSpec(source + tail)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InvalidSource, match="seed -1"):
        ModelSpec("synthetic:a", seed=-1)


def test_the_revision_may_have_slashes_and_defaults_to_main() -> None:
    assert hub_parts("hf:a/b@refs/pr/1").revision == "refs/pr/1"
    assert hub_parts("hf:a/b").revision == "main"


def test_an_unknown_quantization_names_the_nearest_and_all() -> None:
    with pytest.raises(UnknownQuantization, match=r"'Q4_K_X'.*mean Q4_K_\w\?.*Known: F32, .*TQ1_0"):
        ModelSpec("synthetic:a", "Q4_K_X")


@pytest.mark.parametrize("name", ["IQ1_S", "IQ2_XXS", "IQ3_XXS", "IQ3_XS", "Q2_K_S"])
def test_types_that_need_an_importance_matrix_are_refused_by_name(name: str) -> None:
    with pytest.raises(UnknownQuantization, match=f"{name} cannot be made.*importance matrix"):
        require_makeable(find_quantization(name))


def test_file_types_have_llama_cpps_numbers() -> None:
    assert [name_of_ftype(number) for number in (0, 7, 15, 32, 38)] == [
        "F32",
        "Q8_0",
        "Q4_K_M",
        "BF16",
        "MXFP4_MOE",
    ]
    assert name_of_ftype(33) is None
