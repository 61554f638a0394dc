"""Is a compiled decode step faster, and what does compiling cost?

torch.compile makes one program of what Python otherwise calls operation by operation. That pays
where the calls take longer than the arithmetic: here, on a small model and one thread; on a GPU
up to larger ones. It takes its time at every load, which is told apart from the rest of it.
TensorRT compiles too, and needs an NVIDIA GPU.
"""

import shutil
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.fixtures import LoadModel, Measure

from .conftest import Model

SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


@pytest.fixture
def tiny(synthetic: Callable[[Mapping[str, Any]], str]) -> str:
    """A model whose operations are over sooner than the calls of them."""
    return synthetic(SHAPE)


@pytest.mark.claim("a compiled decode step is faster; compiling is told apart from loading")
@perf(samples=5)
def test_a_compiled_step_is_faster(
    load_model: LoadModel,
    measure: Measure,
    tiny: str,
    record_property: Callable[[str, object], None],
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler: there is no g++")
    seen = {}
    for how, compiled in (("eager", False), ("compiled", True)):
        model = load_model(
            tiny,
            backend="transformers",
            device="cpu",
            num_threads=1,
            dtype="float32",
            cache_implementation="static",
            compile=compiled,
        )
        seen[how] = measure(model, prompt_tokens=32, new_tokens=64, name=how)
    # The steady step: a slow first one is not in it.
    faster = seen["eager"].itl.median / seen["compiled"].itl.median
    # A load that compiled nothing would have been refused.
    assert seen["eager"].engine.compile_s is None
    compile_s, load_s = seen["compiled"].engine.compile_s, seen["compiled"].load.median
    assert compile_s is not None
    record_property("speed of a step, × eager", f"{faster:.2f}")
    record_property("compiling, of the load", f"{compile_s:.1f} of {load_s:.1f} s")
    assert faster > 1.5
    assert 0.2 * load_s < compile_s < load_s


@pytest.mark.claim("TensorRT is faster than eager")
@requires(gpu=True, backend="tensorrt-llm")
@perf(samples=5)
def test_tensorrt_is_faster_than_eager(
    load_model: LoadModel, measure: Measure, folder: Model
) -> None:
    eager = load_model(**folder, backend="transformers", dtype="bfloat16")
    built = load_model(**folder, backend="tensorrt-llm", dtype="bfloat16")
    slow = measure(eager, prompt_tokens=64, new_tokens=64, name="eager")
    fast = measure(built, prompt_tokens=64, new_tokens=64, name="TensorRT")
    assert fast.decode_tps.median > slow.decode_tps.median
