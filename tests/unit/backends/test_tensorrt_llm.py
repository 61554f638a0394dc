"""Is TensorRT-LLM asked as its source says? Constructed: the stand-in was made from that source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf.backends.protocol import EngineMissing, EngineRefused, Request
from pytest_llmperf.backends.tensorrt_llm import TensorRtLlm, TensorRtLlmOptions
from pytest_llmperf.backends.timeline import Timeline
from pytest_llmperf.models import ModelFiles


class StandInLLM:
    """Tells all tokens so far with each step, twice the same, and two new ones at once."""

    def __init__(self, **given: Any) -> None:
        if given["max_batch_size"] != 1 or given["model"] == "/wrong":
            raise ValueError("no such model")
        self.given = given
        self.asked: Any = None

    def generate_async(self, prompt: list[int], sampling: Any, streaming: bool) -> Iterator[Any]:
        assert streaming
        self.asked = sampling
        ids = [prompt[0] + each for each in range(sampling.max_tokens)]
        for known in (1, 1, 3, len(ids)):
            yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids[:known])])

    def shutdown(self) -> None:
        self.given = {}


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    package, api = ModuleType("tensorrt_llm"), ModuleType("tensorrt_llm.llmapi")
    package.__dict__.update(llmapi=api, __version__="1.2.0")
    api.__dict__.update(LLM=StandInLLM, KvCacheConfig=dict, SamplingParams=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "tensorrt_llm", package)
    monkeypatch.setitem(sys.modules, "tensorrt_llm.llmapi", api)
    for name in ("TLLM_WORKER_USE_SINGLE_PROCESS", "TRTLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, "0")


def files(path: str = "/model") -> ModelFiles:
    return ModelFiles(
        path=path,
        format="hf",
        weight_bytes=2,
        parameters=1,
        bits_per_weight=16.0,
        type_mix={"BF16": 1},
        quantization="BF16",
        architecture="llama",
        vocab_size=100,
        context_length=512,
        synthetic=True,
    )


def test_it_streams_one_sequence_and_counts_what_is_new() -> None:
    backend = TensorRtLlm()
    assert backend.import_engine() == "1.2.0"
    engine = backend.load(files(), TensorRtLlmOptions(), 0)
    timeline = Timeline(4)
    engine.generate(Request(prompts=[[7, 8]], new_tokens=4), timeline)
    assert timeline.token_ids == [7, 8, 9, 10]
    assert timeline.chunk_tokens == [1, 2, 1]
    asked = engine._llm.asked
    assert (asked.ignore_eos, asked.top_k, asked.end_id) == (True, 1, -1)


def test_its_cache_holds_one_context_and_nothing_of_earlier_requests() -> None:
    engine = TensorRtLlm().load(files(), TensorRtLlmOptions(), 0)
    assert engine._llm.given["kv_cache_config"] == {"enable_block_reuse": False, "max_tokens": 576}
    facts = engine.facts()
    assert (facts.context_tokens, facts.batch, facts.vocab_size) == (512, 1, 100)
    assert facts.options["max_num_tokens"] == 512


def test_what_it_cannot_do_is_refused() -> None:
    engine = TensorRtLlm().load(files(), TensorRtLlmOptions(), 0)
    with pytest.raises(EngineRefused, match="no depth can be read ahead"):
        engine.generate(
            Request(prompts=[[1, 2]], new_tokens=1, depth=1),
            Timeline(1),
        )
    with pytest.raises(EngineRefused, match="could not load /wrong: no such model"):
        TensorRtLlm().load(files("/wrong"), TensorRtLlmOptions(), 0)


def test_the_stub_of_the_package_index_is_missing_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["tensorrt_llm.llmapi"], "LLM")
    with pytest.raises(EngineMissing, match="cannot import tensorrt_llm: cannot import name 'LLM'"):
        TensorRtLlm().import_engine()
