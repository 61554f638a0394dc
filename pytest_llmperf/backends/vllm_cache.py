"""How large does vLLM's KV cache have to be for some sequences, and no larger?

Left alone, vLLM takes what its share of the memory leaves, and refuses where others use a part.
"""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.backends.protocol import EngineRefused
from pytest_llmperf.models import ModelError
from pytest_llmperf.models.config import read_config
from pytest_llmperf.models.layers import Layers, Nothing, Recurrent, vllm_bytes
from pytest_llmperf.models.layers_hf import layers_of_config


def cache_bytes(
    folder: Path,
    *,
    context_tokens: int,
    sequences: int = 1,
    block_tokens: int,
    element_bytes: float,
) -> int:
    """Of ``sequences`` at their full length, in bytes. Raises EngineRefused where it is unknown."""
    blocks = sequences * -(-context_tokens // block_tokens)
    tokens = (blocks + 1) * block_tokens  # vLLM keeps one block for itself
    return sum(
        vllm_bytes(each, tokens, block_tokens=block_tokens, element_bytes=element_bytes)
        for each in _layers(folder).layers
    )


def _layers(folder: Path) -> Layers:
    """Raises EngineRefused where the size of the cache cannot be told beforehand."""
    remedy = "the size of its KV cache is not known here: give kv_cache_memory_bytes=…"
    try:
        layers = layers_of_config(read_config(folder / "config.json"))
    except ModelError as error:
        raise EngineRefused(f"{error} {remedy}") from error
    if any(isinstance(each, Recurrent | Nothing) for each in layers.layers):
        raise EngineRefused(f"{folder} has recurrent layers: {remedy}")
    return layers
