"""Which model do the suites run? The user's own (``--llmperf-model``), or one that is made here.

A synthetic model tells speed and memory; what depends on what a model says takes one that is
trained here. On a GPU with room for it the synthetic one is as large as those in use.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import pytest

from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement
from pytest_llmperf.options import read_settings

SMALL, LARGE, TRAINED = "synthetic:llama-160m", "synthetic:mistral-7b", "trained:small"
LARGE_VRAM_BYTES = 20e9


class Model(TypedDict, total=False):
    """What ``load_model(**model)`` takes of a model."""

    source: str
    quantization: str


@pytest.fixture
def size(hardware: Hardware) -> str:
    """The synthetic model that this machine is asked to run."""
    rooms = [gpu.memory_bytes or 0 for gpu in hardware.accelerators]
    return LARGE if max(rooms, default=0) >= LARGE_VRAM_BYTES else SMALL


@pytest.fixture
def own(pytestconfig: pytest.Config) -> str | None:
    """The user's model."""
    return read_settings(pytestconfig).model


@pytest.fixture
def made_here(own: str | None, size: str) -> str:
    """A model of which there are all formats and quantizations."""
    if own is not None and not _is_made_here(own):
        pytest.skip(f"{own} is what it is; other formats and types are made of synthetic models")
    return own or size


@pytest.fixture
def made_small(own: str | None) -> str:
    """As ``made_here``, of a size for a CPU: for what is asserted of main memory."""
    if own is not None and not _is_made_here(own):
        pytest.skip(f"{own} is what it is; other formats and types are made of synthetic models")
    return own or SMALL


@pytest.fixture
def gguf(own: str | None, size: str) -> Model:
    """A model for llama.cpp."""
    return _gguf(own, {"source": size, "quantization": "Q8_0"})


@pytest.fixture
def small_gguf(own: str | None) -> Model:
    """A model for llama.cpp, of a size for a CPU."""
    return _gguf(own, {"source": SMALL, "quantization": "Q8_0"})


@pytest.fixture
def trained_gguf(own: str | None) -> Model:
    """A model for llama.cpp that says something."""
    return _gguf(own, {"source": TRAINED, "quantization": "F16"})


@pytest.fixture
def folder(own: str | None, size: str) -> Model:
    """A model for transformers."""
    return _folder(own, {"source": size})


@pytest.fixture
def trained_folder(own: str | None) -> Model:
    """A model for transformers that says something."""
    return _folder(own, {"source": TRAINED})


@pytest.fixture
def trained_here(own: str | None) -> None:
    """For tests of what only the model that is trained here tells."""
    if own is not None and own != TRAINED:
        pytest.skip(f"what is asked of {TRAINED} here is not known of {own}")


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[[Mapping[str, Any]], str]:
    """The source of a model of these shapes, with random weights."""

    def source(shape: Mapping[str, Any], name: str = "config") -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(shape), encoding="utf-8")
        return f"synthetic:{path}"

    return source


def prefill_bytes(seen: Measurement) -> int:
    """The highest that memory stood while the prompt was read."""
    if seen.memory is None or seen.memory.prefill is None:
        pytest.skip("this system tells no memory peak of a part of a request")
    return seen.memory.prefill.bytes


def private_bytes(seen: Measurement) -> float:
    """Of RAM, what is no mapped file."""
    if "ram_anon" not in seen.metrics:
        pytest.skip("this system does not tell private memory from mapped files")
    return seen.ram_anon.median * 2**30


def _gguf(own: str | None, usual: Model) -> Model:
    if own is None or _is_made_here(own):
        return {**usual, "source": own or usual["source"]}
    if not own.endswith(".gguf"):
        pytest.skip(f"llama.cpp reads GGUF, and {own} is none")
    return {"source": own}


def _folder(own: str | None, usual: Model) -> Model:
    if own is not None and own.endswith(".gguf"):
        pytest.skip(f"transformers reads a folder, and {own} is a GGUF file")
    return usual if own is None else {"source": own}


def _is_made_here(source: str) -> bool:
    return source.startswith(("synthetic:", "trained:"))
