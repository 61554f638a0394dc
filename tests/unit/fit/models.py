"""Small models whose sizes can be added up by hand."""

from __future__ import annotations

from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.models.layers import FullAttention, Layer, Layers
from pytest_llmperf.models.step import Attention, Traffic
from pytest_llmperf.models.weights import Weights

MIB = 1 << 20
GIB = 1 << 30


def model(
    *, layers: int = 4, layer_mib: int = 100, table_mib: int = 50, output_mib: int = 60
) -> ModelSize:
    """Layers of equal size with 8 key heads of 64 numbers: 2048 bytes of F16 cache per token."""
    attention: tuple[Layer, ...] = (FullAttention(8, 64, 64),) * layers
    return ModelSize(
        weights=Weights(
            tables=table_mib * MIB,
            layers=(layer_mib * MIB,) * layers,
            output=output_mib * MIB,
            types={"Q8_0": layers * layer_mib * MIB},
        ),
        layers=Layers(
            hidden=512, vocab=1000, heads=8, layers=attention, max_context=4096, tied=False
        ),
        inner=2048,
        traffic=Traffic(
            dense_bytes=(layers * layer_mib + output_mib) * MIB,
            attention=(Attention(layers=layers, kv_values=1024, query_values=1024),),
            layer_parameters=layers * layer_mib * MIB,
            head_parameters=output_mib * MIB,
            bits_per_weight=8.0,
            tied=False,
        ),
    )
