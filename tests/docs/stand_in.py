"""What takes the place of the engines and models that the pages name?

A script, asked by the same words: options are checked by the real adapter, source and quantization
by the real reader; then the scripted engine is loaded. For the conftest.py of test_python.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_llmperf.backends import find_backend, read_options
from pytest_llmperf.fixtures import Compare, LoadModel
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.pool import LoadedModel

FAST = 2000.0
"""Tokens a second, more than any limit on a page but one that is meant to be broken."""


def check(source: str, backend: str, quantization: str | None = None, **options: object) -> None:
    """As ``load_model`` reads them. Raises what it raises."""
    ModelSpec(source, quantization)
    read_options(find_backend(backend), options)


@pytest.fixture
def load_model(load_model: LoadModel) -> LoadModel:
    """The scripted engine, whatever engine is asked for."""

    def load(
        source: Any = None,
        *,
        backend: str | None = None,
        quantization: str | None = None,
        seed: int = 0,
        fit: Any = False,
        **options: Any,
    ) -> LoadedModel:
        assert backend is not None
        if backend == "fake":
            return load_model(source, backend=backend, **options)
        check(source, backend, quantization, **options)
        drafts = "draft_model" in options
        return load_model(
            "fake:any",
            backend="fake",
            decode_tps=FAST,
            prefill_tps=10 * FAST,
            n_ctx=16384,
            chunk_tokens=4 if drafts else 1,
        )

    return load


@pytest.fixture
def compare(compare: Compare) -> Compare:
    """The first arm twice as fast as the second, in half of its memory."""

    def compare_them(a: Mapping[str, Any], b: Mapping[str, Any], **both: Any) -> Any:
        shared = ("source", "backend")
        loading: dict[str, Any] = {name: both.pop(name) for name in shared if name in both}
        for arm in (a, b):
            check(**{**loading, **arm})
        return compare(
            {"decode_tps": 2 * FAST, "prefill_tps": 2 * FAST, "ram_mib": 0},
            {"decode_tps": FAST, "prefill_tps": FAST, "ram_mib": 256},
            source="fake:any",
            backend="fake",
            **both,
        )

    return compare_them


@pytest.fixture
def folder() -> str:
    """A model's folder, as the pages call it."""
    return "synthetic:llama-160m"


@pytest.fixture
def model(load_model: LoadModel) -> LoadedModel:
    """A model that was loaded some lines above."""
    return load_model("model.gguf", backend="llama-cpp")
