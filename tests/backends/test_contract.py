"""Does every engine do what the protocol of backends promises?"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import get_args

import pytest

from pytest_llmperf.backends import UnknownOption
from pytest_llmperf.backends.transformers_packing import Packing
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import WorkerPool
from tests.backends.conftest import Load
from tests.faults.processes import generate, loading, prompt

REAL = [
    pytest.param("llama-cpp", {"quantization": "Q4_K_M"}, marks=pytest.mark.engine, id="Q4_K_M"),
    pytest.param("llama-cpp", {"quantization": "Q8_0"}, marks=pytest.mark.engine, id="Q8_0"),
    pytest.param("transformers", {"quantization": "BF16"}, marks=pytest.mark.engine, id="BF16"),
    *(
        pytest.param("transformers", {"quantize": packing}, marks=pytest.mark.engine, id=packing)
        for packing in get_args(Packing)
    ),
    *(
        pytest.param(
            "onnxruntime", {"quantization": kind}, marks=pytest.mark.engine, id=f"onnx-{kind}"
        )
        for kind in ("INT4", "F32")
    ),
]
ALL = [*REAL, pytest.param("fake", {}, id="fake")]


@pytest.mark.parametrize(("engine", "arguments"), ALL)
@pytest.mark.parametrize(("prompt_tokens", "new_tokens"), [(1, 1), (8, 1), (1, 200), (100, 33)])
def test_exactly_the_tokens_asked_for_are_generated(
    engine: str, arguments: dict[str, object], prompt_tokens: int, new_tokens: int, load: Load
) -> None:
    model = load(engine, **arguments)
    answer = generate(model, prompt(prompt_tokens), new_tokens)
    assert answer.count == len(answer.token_ids) == len(answer.instants_ns) == new_tokens
    assert all(0 <= token < model.engine.vocab_size for token in answer.token_ids)


@pytest.mark.parametrize(("engine", "arguments"), ALL)
def test_a_request_fills_the_context_to_the_last_token(
    engine: str, arguments: dict[str, object], load: Load
) -> None:
    model = load(engine, **arguments)
    prompt_tokens = model.engine.context_tokens - 16
    assert generate(model, prompt(prompt_tokens), 16).count == 16


@pytest.mark.parametrize(("engine", "arguments"), ALL)
def test_a_request_that_does_not_fit_is_refused_by_the_worker_itself(
    engine: str, arguments: dict[str, object], load: Load
) -> None:
    model = load(engine, **arguments)
    room = model.engine.context_tokens
    with pytest.raises(EngineRefusal, match=f"{room + 1} tokens asked for, the context holds"):
        generate(model, prompt(room - 15), 16)


@pytest.mark.parametrize(("engine", "arguments"), ALL)
def test_nothing_of_an_earlier_request_is_reused(
    engine: str, arguments: dict[str, object], load: Load
) -> None:
    """Greedy decoding answers a prompt the same, after itself, after another, after its prefix."""
    model = load(engine, **arguments)
    a, b = prompt(64, seed=1), prompt(64, seed=2)
    first = generate(model, a, 24).token_ids
    assert generate(model, a, 24).token_ids == first
    other = generate(model, b, 24).token_ids
    assert other != first
    assert generate(model, a, 24).token_ids == first
    generate(model, a[:40], 8)
    assert generate(model, a, 24).token_ids == first


@pytest.mark.parametrize(("engine", "arguments"), REAL)
def test_a_fresh_worker_gives_the_same_tokens(
    engine: str, arguments: dict[str, object], load: Load, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kept = generate(load(engine, **arguments), prompt(64), 32).token_ids
    others = WorkerPool(tmp_path_factory.mktemp("fresh"))
    try:
        fresh = others.load(loading(engine, **arguments))  # type: ignore[arg-type] # a mixed bag
        assert generate(fresh, prompt(64), 32).token_ids == kept
    finally:
        others.close()


@pytest.mark.parametrize(("engine", "arguments"), REAL)
def test_instants_grow_and_lie_within_the_request(
    engine: str, arguments: dict[str, object], load: Load
) -> None:
    """The clock is one for all processes of a machine, so that ours brackets the worker's."""
    model = load(engine, **arguments)
    asked = time.perf_counter_ns()
    answer = generate(model, prompt(32), 64)
    answered = time.perf_counter_ns()
    instants = [asked, answer.started_ns, *answer.instants_ns, answered]
    assert all(earlier < later for earlier, later in pairwise(instants))


@pytest.mark.parametrize(
    ("engine", "wrong", "right"),
    [
        ("llama-cpp", "n_thread", "n_threads"),
        ("llama-cpp", "flash_attention", "flash_attn"),
        ("transformers", "torch_dtype", "dtype"),
        ("fake", "decode_tsp", "decode_tps"),
    ],
)
def test_a_wrong_option_names_the_nearest_right_one(
    engine: str, wrong: str, right: str, load: Load
) -> None:
    with pytest.raises(UnknownOption) as caught:
        load(engine, **{wrong: 1})
    assert f"backend {engine} has no option {wrong!r}, did you mean {right!r}?" in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("llama-cpp", {"n_ctx": "many"}),
        ("llama-cpp", {"flash_attn": True}),
        ("transformers", {"dtype": "int3"}),
    ],
)
def test_a_wrong_value_names_its_option(
    engine: str, options: dict[str, object], load: Load
) -> None:
    with pytest.raises(UnknownOption, match=rf"backend {engine}: .*{next(iter(options))}"):
        load(engine, **options)
