"""Do engines that tell log-probabilities alone tell how good their output is?"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pytest_llmperf.measure.quality import NoDistribution, Quality, summarize_quality
from pytest_llmperf.measure.reading import BadText, TextRequest
from pytest_llmperf.measure.reference import LoadedReference
from pytest_llmperf.measure.scoring import read_passage, read_window
from pytest_llmperf.measure.stored_reference import store
from pytest_llmperf.texts import MEASURED
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load
from tests.backends.servers import LLAMA_SERVER, faulty, needs_llama_server, needs_vllm, vllm_python

TIMEOUT_S = 300.0
TRAINED = "trained:small"
SERVED: dict[str, object] = {
    "server": "vllm",
    "python": vllm_python(),
    "arguments": "--enforce-eager --dtype float32 --kv-cache-memory-bytes 67108864",
}


def told(model: LoadedModel, reference: LoadedModel | None = None) -> Quality:
    passage = read_passage(model, MEASURED, TIMEOUT_S)
    beside = None if reference is None else LoadedReference(reference, MEASURED, TIMEOUT_S)
    if beside is not None:
        beside.require_same_tokens(model, passage)
    numbers = range(len(passage.windows))
    return summarize_quality(
        [read_window(model, passage, number, TIMEOUT_S, beside) for number in numbers]
    )


def test_perplexity_is_that_of_the_shares_told(load: Load) -> None:
    """Windows as long as the context, but for the token that a server generates to each."""
    model = load("openai", command=faulty("begins"))
    passage = read_passage(model, MEASURED, TIMEOUT_S)
    assert {len(window) for window in passage.windows} == {model.engine.context_tokens - 1}
    assert all(window[0] == 99 for window in passage.windows), "what goes before every text"
    found = told(model)
    assert found.perplexity.value == pytest.approx(4.0)
    assert found.positions == 8 * (63 - 31 - 1)
    assert (found.kl_divergence, found.top1_agreement) == (None, None)


@pytest.mark.parametrize(
    ("fault", "error", "why"),
    [
        ("no-tokens", EngineRefusal, "makes no tokens of a text: .*HTTP 404"),
        ("no-shares", EngineRefusal, "tells no log-probabilities of a prompt .*read by llama-cpp"),
        ("few-shares", EngineRefusal, "of token 63 of 63 vLLM does not tell both"),
        ("wrong-shares", NoDistribution, "a log-probability is above 0"),
    ],
)
def test_what_a_server_does_not_tell_is_said(
    fault: str, error: type[Exception], why: str, load: Load
) -> None:
    with pytest.raises(error, match=why):
        told(load("openai", command=faulty(fault)))


def test_log_probabilities_are_no_reference(load: Load, tmp_path: Path) -> None:
    model = load("openai", command=faulty("none"))
    with pytest.raises(EngineRefusal, match="no distribution, which a reference has to give"):
        told(model, model)
    with pytest.raises(EngineRefusal, match="openai tells the log-probability of each token"):
        store(model, TextRequest("shipped"), tmp_path / "kept", TIMEOUT_S, lambda words: None)
    assert list(tmp_path.iterdir()) == []


def test_a_text_too_short_for_a_window_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("one two three")
    with pytest.raises(BadText, match="has 13 tokens; one window takes 63"):
        read_passage(load("openai", command=faulty("none")), tmp_path / "short.txt", TIMEOUT_S)


@pytest.mark.engine
@needs_llama_server
def test_llama_server_makes_tokens_and_says_that_it_tells_no_more(load: Load) -> None:
    usual: dict[str, object] = {"source": TRAINED, "quantization": "F16"}
    served = load("openai", command=LLAMA_SERVER, command_loads="gguf", **usual)
    passage = read_passage(served, MEASURED, TIMEOUT_S, 128)
    assert (
        passage.windows
        == read_passage(load("llama-cpp", **usual), MEASURED, TIMEOUT_S, 128).windows
    )
    with pytest.raises(EngineRefusal, match="tells no log-probabilities of a prompt"):
        told(served)


@pytest.mark.engine
@needs_vllm
@pytest.mark.parametrize("backend", ["openai", "vllm"])
def test_vllm_reads_as_well_as_transformers_does(backend: str, load: Load) -> None:
    usual: dict[str, object] = {"source": TRAINED, "quantization": "F32", "timeout_s": 300.0}
    inside = {"dtype": "float32", "enforce_eager": True, "interpreter": vllm_python()}
    model = load(backend, **usual, **(SERVED if backend == "openai" else inside))
    found = told(model, load("transformers", **usual))
    assert found.reference_perplexity is not None
    assert found.perplexity.value == pytest.approx(found.reference_perplexity.value, rel=1e-4)
    assert found.top1_agreement is not None
    assert found.top1_agreement.value > 0.995
    assert math.isfinite(found.perplexity.error or math.nan)
    assert found.kl_divergence is None
