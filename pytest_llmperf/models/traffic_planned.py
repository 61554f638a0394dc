"""What would a step read and compute of a model that is only planned?"""

from __future__ import annotations

from pytest_llmperf.models.layers import (
    FullAttention,
    LatentAttention,
    Layer,
    Layers,
    SlidingAttention,
)
from pytest_llmperf.models.parameter_parts import Parameters
from pytest_llmperf.models.step import Attention, Traffic
from pytest_llmperf.models.step_parts import merged
from pytest_llmperf.models.weights import Weights


def traffic_planned(layers: Layers, parameters: Parameters, weights: Weights) -> Traffic:
    """What a step reads of ``weights``, by sizes that a config states."""
    read = sum(weights.layers) + weights.output + weights.tied
    experts = layers.experts
    recurrent = sum(_attention(layers, each) is None for each in layers.layers)
    kept = f"the state of {recurrent} of {len(layers.layers)} layers, which keep no keys,"
    multiplied = parameters.matrices + parameters.experts + parameters.output
    return Traffic(
        dense_bytes=read - weights.experts,
        expert_bytes=weights.experts,
        experts=experts.total if experts else 0,
        experts_used=experts.active if experts else 0,
        attention=tuple(merged(filter(None, (_attention(layers, each) for each in layers.layers)))),
        layer_parameters=parameters.matrices,
        expert_parameters=parameters.experts,
        head_parameters=parameters.output + parameters.tied_output,
        bits_per_weight=read * 8 / max(1, multiplied + parameters.tied_output),
        tied=layers.tied,
        notes=(f"{kept} is not counted",) if recurrent else (),
    )


def _attention(layers: Layers, layer: Layer) -> Attention | None:
    """One layer's attention; None: it has none."""
    if not isinstance(layer, FullAttention | SlidingAttention | LatentAttention):
        return None
    whole = layer.whole if isinstance(layer, LatentAttention) and layer.whole else layer
    lengths = (
        (whole.key_length + whole.value_length)
        if isinstance(whole, FullAttention | SlidingAttention)
        else whole.key_row
    )
    return Attention(
        layers=1,
        kv_values=layer.key_row + layer.value_row,
        query_values=layers.heads * lengths,
        window=layer.window if isinstance(layer, SlidingAttention) else None,
    )
