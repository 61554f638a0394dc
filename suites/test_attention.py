"""Is the memory of attention linear in the prompt with fused kernels, and quadratic without?

Eager attention holds a score for every head and pair of tokens; SDPA and FlashAttention hold a
tile of them. Twice the tokens then take twice as much more memory than the last doubling took, or
four times as much.
"""

import importlib.util
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.fixtures import LoadModel, Measure

from .conftest import Model, prefill_bytes

Record = Callable[[str, object], None]
LENGTHS = (512, 1024, 2048)
BETWEEN = 2.8
"""Of the growth from one doubling of the prompt to the next: 2 is linear, 4 is quadratic."""
HEADS = 8
SCORES_BYTES = 4 * HEADS * (LENGTHS[2] ** 2 - LENGTHS[1] ** 2)
"""What the last doubling adds where each head and pair of tokens has a float32."""
SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}


@pytest.fixture
def shallow(synthetic: Callable[[Mapping[str, Any]], str]) -> str:
    """A model of many heads; of its layers one at a time would hold scores, so one is enough."""
    return synthetic(SHAPE)


def require_quadratic_or_linear(whole: list[int], fused: list[int], record: Record) -> None:
    """``whole``, ``fused``: peaks at LENGTHS of attention of either kind."""
    for peaks, is_quadratic in ((whole, True), (fused, False)):
        first, last = (later - earlier for earlier, later in itertools.pairwise(peaks))
        kind = "scores" if is_quadratic else "fused"
        record(f"{kind}: MiB more of each doubling", f"{first / 2**20:.0f} and {last / 2**20:.0f}")
        if is_quadratic:
            assert last > SCORES_BYTES, peaks
            assert last > BETWEEN * first, peaks
        else:
            assert last < SCORES_BYTES / 2, peaks


@pytest.mark.claim(
    "attention's memory is quadratic with eager scores, linear with SDPA: transformers"
)
@perf(samples=5)
def test_memory_of_transformers(
    load_model: LoadModel, measure: Measure, shallow: str, record_property: Record
) -> None:
    peaks: dict[str, list[int]] = {"eager": [], "sdpa": []}
    for kind, seen in peaks.items():
        model = load_model(
            shallow, backend="transformers", device="cpu", dtype="float32", attn_implementation=kind
        )
        assert model.options["attn_implementation"] == kind
        for tokens in LENGTHS:
            told = measure(model, prompt_tokens=tokens, new_tokens=1, name=f"{kind} {tokens}")
            seen.append(prefill_bytes(told))
    require_quadratic_or_linear(peaks["eager"], peaks["sdpa"], record_property)


@pytest.mark.quick
@pytest.mark.claim(
    "attention's memory is quadratic without flash attention, linear with it: llama.cpp"
)
@perf(samples=5)
def test_memory_of_llama_cpp(
    load_model: LoadModel, measure: Measure, shallow: str, record_property: Record
) -> None:
    peaks: dict[str, list[int]] = {"off": [], "on": []}
    for flash, seen in peaks.items():
        for tokens in LENGTHS:
            model = load_model(
                shallow,
                backend="llama-cpp",
                quantization="Q8_0",
                n_gpu_layers=0,
                flash_attn=flash,
                n_ctx=tokens + 256,
                n_batch=tokens,
                n_ubatch=tokens,  # the prompt at once: in parts there are fewer scores at a time
            )
            told = measure(model, prompt_tokens=tokens, new_tokens=1, name=f"{flash} {tokens}")
            seen.append(prefill_bytes(told))
    require_quadratic_or_linear(peaks["off"], peaks["on"], record_property)


@pytest.mark.claim("SDPA says what eager attention says")
@perf(samples=5, max_kl_divergence=0.00001, min_top1_agreement=0.99)
def test_sdpa_says_what_eager_says(
    load_model: LoadModel, measure: Measure, trained_folder: Model
) -> None:
    """In float32: in fewer bits another order of the same sums is another result."""
    usual: dict[str, Any] = {**trained_folder, "dtype": "float32"}
    model = load_model(**usual, backend="transformers", attn_implementation="sdpa")
    assert model.options["attn_implementation"] == "sdpa"
    eager = {**usual, "attn_implementation": "eager"}
    told = measure(model, prompt_tokens=32, new_tokens=8, against=eager)
    assert told.kl_divergence.median > 0, "one kernel computed both"


@pytest.mark.claim("llama.cpp says the same with flash attention and without")
@perf(samples=5, max_kl_divergence=0.00001, min_top1_agreement=0.99)
def test_flash_attention_of_llama_cpp_says_the_same(
    load_model: LoadModel, measure: Measure, trained_gguf: Model
) -> None:
    model = load_model(**trained_gguf, backend="llama-cpp", flash_attn="on")
    without = {**trained_gguf, "flash_attn": "off"}
    told = measure(model, prompt_tokens=32, new_tokens=8, against=without)
    assert told.kl_divergence.median > 0, "one kernel computed both"


@pytest.mark.claim("FlashAttention 2 says what eager attention says")
@requires(gpu=True, compute_capability="8.0")
@perf(samples=5, max_kl_divergence=0.001, min_top1_agreement=0.97)
def test_flash_attention_2_says_the_same(
    load_model: LoadModel, measure: Measure, trained_folder: Model
) -> None:
    if importlib.util.find_spec("flash_attn") is None:
        pytest.skip("the package flash_attn is not installed, without which there is none")
    model = load_model(
        **trained_folder,
        backend="transformers",
        dtype="bfloat16",
        attn_implementation="flash_attention_2",
    )
    eager = {**trained_folder, "dtype": "bfloat16", "attn_implementation": "eager"}
    measure(model, prompt_tokens=32, new_tokens=8, against=eager)
