"""Is the cache of transformers, and its compiled step, what was asked for?"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from pytest_llmperf.backends import EngineRefused, Request
from pytest_llmperf.backends.transformers import TransformersOptions
from pytest_llmperf.backends.transformers_cache import RequestCaches
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load
from tests.faults.processes import answer_to, generate, prompt

pytestmark = pytest.mark.engine

QUANTIZED = {"quantization": "F32", "cache_implementation": "quantized"}


def quantized_tokens(model: LoadedModel) -> tuple[int, int]:
    """Of the last request, quantized and all, by the worker's log."""
    told = re.findall(r"cache: (\d+) of (\d+) tokens quantized", model.worker.log.read_text())
    return int(told[-1][0]), int(told[-1][1])


@pytest.mark.parametrize("depth", [0, 24])
def test_a_static_cache_changes_no_token(depth: int, load: Load) -> None:
    plain = load("transformers", quantization="F32")
    static = load("transformers", quantization="F32", cache_implementation="static")
    assert static.options["cache_implementation"] == "static"
    for tokens in (60, 30):  # a request does not get the cache of a longer one before it
        request = Request(prompts=[prompt(tokens)], new_tokens=16, depth=depth)
        assert answer_to(static, request).token_ids == answer_to(plain, request).token_ids


def test_each_sequence_of_a_batch_has_its_part_of_a_static_cache(load: Load) -> None:
    plain = load("transformers", quantization="F32")
    static = load("transformers", quantization="F32", cache_implementation="static")
    request = Request(prompts=[prompt(40, seed) for seed in range(3)], new_tokens=8)
    assert answer_to(static, request).token_ids == answer_to(plain, request).token_ids


def test_without_a_cache_no_token_changes(load: Load) -> None:
    plain = load("transformers", quantization="F32")
    without = load("transformers", quantization="F32", cache_implementation="off")
    assert without.options["cache_implementation"] == "off"
    assert (plain.engine.kv_element_bytes, without.engine.kv_element_bytes) == (4.0, 0.0)
    request = Request(prompts=[prompt(40, seed) for seed in range(2)], new_tokens=16)
    assert answer_to(without, request).token_ids == answer_to(plain, request).token_ids
    ahead = Request(prompts=[prompt(40)], new_tokens=4, depth=24)
    with pytest.raises(EngineRefusal, match="keeps no tokens ahead: ask for depth=0"):
        answer_to(without, ahead)


class Hooked:
    """What a model tells of its steps."""

    def register_forward_pre_hook(self, hook: Callable[..., None], *, with_kwargs: bool) -> Hooked:
        assert with_kwargs
        self.hook = hook
        return self

    def remove(self) -> None:
        """The request has ended."""


def watched(*calls: dict[str, object]) -> None:
    """A trial of four tokens, during which the model is called with these arguments."""
    caches, model = RequestCaches(None, TransformersOptions(cache_implementation="off")), Hooked()
    trial = Request(prompts=[list(range(8))], new_tokens=4)
    with caches.refusing_cached_steps(model, [trial]):
        for arguments in calls:
            model.hook(model, (), arguments)


def reading(*widths: int) -> list[dict[str, object]]:
    return [{"input_ids": np.zeros((1, width))} for width in widths]


def test_steps_that_read_everything_again_have_no_cache() -> None:
    watched(*reading(8, 9, 10, 11))


@pytest.mark.parametrize("widths", [(8, 1, 1, 1), (8, 9, 10), (8, 9, 10, 11, 12), (8,), ()])
def test_a_cache_that_was_to_be_off_is_noticed(widths: tuple[int, ...]) -> None:
    told = re.escape(f"read {[*widths]} tokens, and [8, 9, 10, 11] without a cache")
    with pytest.raises(EngineRefused, match=told):
        watched(*reading(*widths))


def test_a_step_without_token_ids_is_none_that_reads_them() -> None:
    with pytest.raises(EngineRefused, match=r"read \[8, 0\] tokens"):
        watched(*reading(8), {"inputs_embeds": np.zeros((1, 9, 4))})


@pytest.mark.parametrize(("residual", "quantized"), [(4, 60), (128, 40)])
def test_a_quantized_cache_holds_what_its_residual_length_says(
    residual: int, quantized: int, load: Load
) -> None:
    """The prompt is quantized as it was read; then whenever so many more tokens have gathered."""
    model = load("transformers", cache_group_size=32, cache_residual_length=residual, **QUANTIZED)
    in_force = [model.options[f"cache_{name}"] for name in ("backend", "nbits", "group_size")]
    assert in_force == ["quanto", 4, 32]
    assert model.options["cache_residual_length"] == residual
    assert generate(model, prompt(40), 24).count == 24
    assert quantized_tokens(model) == (quantized, 63)


@pytest.mark.parametrize(
    ("options", "bytes_each"),
    [
        ({"cache_group_size": 32}, 4 / 8 + 2 * 4 / 32),  # scale and shift are float32 here
        ({"cache_group_size": 32, "cache_nbits": 2}, 2 / 8 + 2 * 4 / 32),
        ({"cache_backend": "fp8"}, 1.0),
    ],
)
def test_a_cached_number_is_as_small_as_was_asked_for(
    options: dict[str, object], bytes_each: float, load: Load
) -> None:
    model = load("transformers", **QUANTIZED, **options)
    assert model.engine.kv_element_bytes == pytest.approx(bytes_each, rel=0.01)
    plain = load("transformers", quantization="F32")
    assert plain.engine.kv_element_bytes == 4.0
    assert generate(model, prompt(40), 24).token_ids != generate(plain, prompt(40), 24).token_ids


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"cache_implementation": "quantized"},
            "64 does not divide the 6 × 48 .* give cache_group_size=32",
        ),
        ({"cache_nbits": 2}, "cache_nbits needs cache_implementation='quantized'"),
        ({"cache_backend": "fp8"}, "cache_backend needs cache_implementation='quantized'"),
        (
            {"cache_implementation": "quantized", "cache_backend": "fp8", "cache_nbits": 2},
            "cache_nbits needs .* cache_backend='quanto'",
        ),
        ({"compile": True}, "compile needs cache_implementation='static'"),
    ],
)
def test_a_cache_that_cannot_be_is_refused(
    options: dict[str, object], words: str, load: Load
) -> None:
    with pytest.raises(EngineRefusal, match=words):
        load("transformers", **options)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: g++")
def test_a_compiled_step_is_compiled_and_changes_no_token(load: Load) -> None:
    plain = load("transformers", quantization="F32")
    compiled = load("transformers", quantization="F32", cache_implementation="static", compile=True)
    assert compiled.options["compile"] is True
    graphs = re.search(r"compile: (\d+) graphs, 0 breaks", compiled.worker.log.read_text())
    assert graphs is not None
    assert int(graphs[1]) == 2  # for one size, and for any: requests compile no more
    assert compiled.engine.compile_s is not None
    assert 0 < compiled.engine.compile_s < compiled.load.load_s
    assert plain.engine.compile_s is None
    for seed in range(2):
        request = Request(prompts=[prompt(40, seed)], new_tokens=16)
        ours = answer_to(compiled, request, timeout_s=300).token_ids
        assert ours == answer_to(plain, request).token_ids
