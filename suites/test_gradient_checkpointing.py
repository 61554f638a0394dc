"""Does gradient checkpointing save memory in a training step, and what does that cost?

Without it a step keeps what every layer computed until the way back; with it only what enters
each layer, and each layer is run once more. Forward is a third of a step, so that the step takes
4/3 of the time (Chen et al. 2016, arXiv:1604.06174). The model is of a shape that makes this show
within seconds: many small layers, a wide part in each, a small vocabulary. Its numbers are those
of random weights, on which neither memory nor time depends.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.measure import Measurement
from pytest_llmperf.worker.pool import LoadedModel

from .conftest import prefill_bytes

FEW, MANY = 2, 5
"""Sequences of a step."""
LAYERS = 8
SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
TRAINING = "transformers-training"


@pytest.fixture
def deep(synthetic: Callable[[Mapping[str, Any]], str]) -> str:
    """A model whose layers keep far more than they weigh."""
    return synthetic(SHAPE)


@pytest.mark.claim("a checkpointed step takes less memory, more time, and computes the same")
@perf(samples=5)
def test_a_step_is_smaller_and_slower(
    load_model: LoadModel,
    measure: Measure,
    deep: str,
    record_property: Callable[[str, object], None],
) -> None:
    cost_bytes, step_ms = {}, {}
    for checkpointing in (False, True):
        model = load_model(
            deep, backend=TRAINING, device="cpu", gradient_checkpointing=checkpointing
        )
        # Weights, gradients and torch itself are in both peaks; they differ by activations.
        few, many = (step_of(measure, model, batch, checkpointing) for batch in (FEW, MANY))
        cost_bytes[checkpointing] = (prefill_bytes(many) - prefill_bytes(few)) / (MANY - FEW)
        step_ms[checkpointing] = many.ttft.median
    saved, slower = cost_bytes[True] / cost_bytes[False], step_ms[True] / step_ms[False]
    record_property("memory of a sequence more, × that without", f"{saved:.2f}")
    record_property("time of a step, × that without", f"{slower:.2f}")
    assert saved < 0.6
    assert 1.08 < slower < 1.8  # 4/3 by the arithmetic
    # The load ran each layer twice, or was refused; and what it computed is what it was without.
    assert model.options["gradient_checkpointing"] is True
    difference = model.options["gradient_difference"]
    assert isinstance(difference, float)
    assert difference < 1e-4


def step_of(measure: Measure, model: LoadedModel, batch: int, checkpointing: bool) -> Measurement:
    name = f"{batch} {'run again' if checkpointing else 'kept'}"
    return measure(model, prompt_tokens=128, new_tokens=1, batch=batch, name=name)
