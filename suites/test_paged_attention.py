"""How many sequences does a KV cache hold in pages, and how many in one piece for each?

In one piece each sequence has room for the longest that may come. In pages it takes what it fills,
so that twelve short sequences or one long one fit into the same cache, whichever comes.
"""

from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.worker.pool import LoadedModel

from .conftest import SMALL, TRAINED

PAGE = 32
BUDGET = 16 * PAGE  # tokens that the cache holds, and of the longest sequence
MANY = 12
SHORT: dict[str, Any] = {"prompt_tokens": 24, "new_tokens": 8}
LONG: dict[str, Any] = {"prompt_tokens": 256, "new_tokens": 8}


def holds_many_or_a_long_one(measure: Measure, paged: LoadedModel) -> None:
    """The same cache, one after the other; the many decode together and not in turns."""
    many = measure(paged, **SHORT, batch=MANY, name="many")
    alone = measure(paged, **SHORT, name="one of them")
    measure(paged, **LONG, name="a long one")
    assert MANY * many.workload.total_tokens <= BUDGET < 2 * MANY * many.workload.total_tokens
    assert many.decode_tps.median > 1.5 * alone.decode_tps.median


@pytest.mark.quick
@pytest.mark.claim("a cache in one piece for each holds many short sequences or a long one")
@perf(samples=5)
def test_in_one_piece_it_is_many_or_a_long_one(load_model: LoadModel, measure: Measure) -> None:
    """llama.cpp gives each sequence an equal share of ``n_ctx``."""
    one = load_model(TRAINED, backend="llama-cpp", n_ctx=BUDGET)
    shares = load_model(TRAINED, backend="llama-cpp", n_ctx=BUDGET, n_seq_max=MANY)
    measure(shares, **SHORT, batch=MANY)
    with pytest.raises(pytest.fail.Exception, match="a batch of 12 sequences"):
        measure(one, **SHORT, batch=MANY)
    with pytest.raises(pytest.fail.Exception, match="need a context of 264"):
        measure(shares, **LONG)


@pytest.mark.claim("the same cache in pages holds either, whichever comes: transformers")
@perf(samples=5)
def test_in_pages_it_is_both(load_model: LoadModel, measure: Measure) -> None:
    paged = load_model(
        SMALL,
        backend="transformers",
        batching="continuous",
        page_size=PAGE,
        num_blocks=BUDGET // PAGE,
    )
    assert paged.options["page_size"] == PAGE
    holds_many_or_a_long_one(measure, paged)
    with pytest.raises(pytest.fail.Exception, match="17 × 32 tokens need 17 blocks of 32"):
        measure(paged, **SHORT, batch=17)  # the budget is one


@pytest.fixture
def vllm(load_model: LoadModel) -> LoadedModel:
    """A cache of ``BUDGET`` tokens, and the block that vLLM keeps for itself."""
    token_bytes = 12 * 2 * 768 * 2  # layers, keys and values, width, bytes
    return load_model(
        SMALL,
        backend="vllm",
        max_model_len=BUDGET,
        max_num_seqs=MANY,
        block_size=PAGE,
        kv_cache_memory_bytes=token_bytes * (BUDGET + PAGE),
        enable_prefix_caching=True,
        enforce_eager=True,
    )


@pytest.mark.claim("the same of vLLM, and it reuses a prefix")
@perf(samples=5)
def test_vllm_holds_many_or_a_long_one_and_reuses_a_prefix(
    measure: Measure, vllm: LoadedModel
) -> None:
    holds_many_or_a_long_one(measure, vllm)
    reused = measure(vllm, prompt_tokens=64, new_tokens=8, depth=256, name="prefix reused")
    read = measure(vllm, prompt_tokens=256 + 64, new_tokens=8, name="prefix read")
    assert reused.ttft.median < 0.5 * read.ttft.median
