"""In which order is a model tried, and is what was asked for left alone?"""

from __future__ import annotations

import importlib.metadata

import pytest

from pytest_llmperf.backends import find_backend, read_options
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.fit.before_load import expect
from pytest_llmperf.fit.ladder import ladder
from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.room import Room
from pytest_llmperf.models import ModelSpec
from tests.unit.fit.models import GIB

CPU = Room(name="test", ram=64 * GIB)
CARD = Room(name="test", ram=64 * GIB, vram=(8 * GIB,))


def words(
    backend: str, room: Room, *, quantization: str | None = None, **given: object
) -> list[str]:
    adapter = find_backend(backend)
    spec = ModelSpec("synthetic:mistral-7b", quantization)
    rungs = ladder(spec, None, adapter, read_options(adapter, given), given, room)
    return [each.words for each in rungs]


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that would use a GPU."""
    monkeypatch.setattr("pytest_llmperf.fit.gpu_support._has", lambda *_: True)


def test_on_a_cpu_types_get_smaller_and_then_the_context() -> None:
    assert words("llama-cpp", CPU) == [
        "F16, on the CPU",
        "Q8_0, on the CPU",
        "Q4_K_M, on the CPU",
        "Q4_K_M, on the CPU, 1792 tokens of context",
    ]


@pytest.mark.parametrize("ram_gib", [8.2, 8.25, 8.35])
def test_the_context_is_the_longest_that_surely_fits(ram_gib: float) -> None:
    adapter = find_backend("llama-cpp")
    spec = ModelSpec("synthetic:mistral-7b", "Q4_K_M")
    small = Room(name="test", ram=round(ram_gib * GIB))

    def fits(context: int) -> bool:
        options = read_options(adapter, {"n_gpu_layers": 0, "n_ctx": context})
        found = expect(spec, None, options, small)
        return found is not None and found.fit is Fit.YES

    *_, last = ladder(spec, None, adapter, read_options(adapter, {}), {}, small)
    assert isinstance(last.options, LlamaCppOptions)
    chosen = last.options.n_ctx
    assert 256 < chosen < 2048
    assert fits(chosen)
    assert not fits(chosen + 256)


@pytest.mark.usefixtures("gpu_build")
def test_with_a_gpu_all_layers_come_first_then_some_then_none() -> None:
    found = words("llama-cpp", CARD)
    assert found[:3] == [f"{kind}, all layers on the GPU" for kind in ("F16", "Q8_0", "Q4_K_M")]
    assert found[3] == "Q4_K_M, on the CPU"  # all of its layers fit: there is no part of them


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize(("vram_gib", "ram_gib"), [(2, 64), (2, 3)])
def test_in_between_as_many_layers_as_fit(vram_gib: int, ram_gib: int) -> None:
    small = Room(name="test", ram=ram_gib * GIB, vram=(vram_gib * GIB,))
    partly = words("llama-cpp", small)[3]
    kind, layers, *_ = partly.replace(",", "").split()
    assert kind == "Q4_K_M"
    assert 5 <= int(layers) <= 12  # of 0.13 GiB each, beside a context


@pytest.mark.usefixtures("gpu_build")
def test_transformers_lets_accelerate_share_before_it_leaves_the_gpu() -> None:
    found = words("transformers", CARD)
    assert found[:2] == ["F32, on the GPU", "BF16, on the GPU"]
    assert found[2:4] == [f"packed as {kind} on the GPU" for kind in ("int8", "nf4")]
    assert found[4].startswith("BF16, layers on the GPU and the CPU (0=")
    assert found[5] == "BF16, on the CPU"


def test_what_was_asked_for_is_not_changed() -> None:
    assert words("llama-cpp", CPU, quantization="Q6_K", n_ctx=4096) == ["Q6_K, on the CPU"]


@pytest.mark.usefixtures("gpu_build")
def test_layers_that_were_asked_for_stay() -> None:
    found = words("llama-cpp", CARD, quantization="Q6_K", n_gpu_layers=20)
    assert found == ["Q6_K, 20 layers on the GPU"]


def test_transformers_goes_from_four_bytes_to_two() -> None:
    assert words("transformers", CPU)[:2] == ["F32, on the CPU", "BF16, on the CPU"]


def test_transformers_makes_a_file_smaller_in_memory() -> None:
    adapter = find_backend("transformers")
    spec = ModelSpec("some/folder")
    rungs = list(ladder(spec, None, adapter, read_options(adapter, {}), {}, CPU))
    assert [each.words for each in rungs] == [
        "on the CPU",
        "as bfloat16 on the CPU",
        "packed as int8 on the CPU",
        "packed as nf4 on the CPU",
    ]
    asked = {"dtype": "float32"}
    (only,) = ladder(spec, None, adapter, read_options(adapter, asked), asked, CPU)
    assert only.words == "on the CPU"


def test_what_would_have_to_be_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    adapter = find_backend("transformers")
    rungs = ladder(ModelSpec("a/folder"), None, adapter, read_options(adapter, {}), {}, CPU)
    missing = {each.words: each.missing for each in rungs}
    said = "bitsandbytes is not installed: pip install bitsandbytes"
    assert missing["packed as nf4 on the CPU"] == said
    assert missing["on the CPU"] == ""


def test_another_engine_is_loaded_as_asked() -> None:
    (only,) = words("fake", CPU)
    assert only == "fake as asked"
