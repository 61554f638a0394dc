"""Which tensors of a GGUF model does one step read, and how large is its cache?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pytest_llmperf.models.gguf import GgufHeader, GgufTensor, read_gguf
from pytest_llmperf.models.spec import ModelFiles
from pytest_llmperf.models.step import Attention, Traffic
from pytest_llmperf.models.step_parts import Part, assemble, layer_of, merged, whole
from pytest_llmperf.models.weight_files import weight_paths

_LAYER = re.compile(r"blk\.(?P<layer>\d+)\.(?P<part>.+)\.weight")
_TABLES = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")
_EXPERTS = re.compile(r"\.ffn_\w+_exps\.")
_HEAD = "output.weight"
WINDOW_PERIODS = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma-embedding": 6,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
    "plamo3": 8,
    "smallthinker": 4,
}
"""Every n-th layer sees everything, the others a window. Source: the calls of
``load_swa_pattern`` in llama.cpp's ``src/models/``. Other architectures ignore a window that
their header states, unless it states the period as well."""


def traffic_of_gguf(files: ModelFiles) -> Traffic | str:
    """Read the headers of all shards; a text says what they do not tell.

    Raises BrokenModelFile or ModelNotHere when the files are no longer what they were.
    """
    headers = [read_gguf(path) for path in weight_paths(files)]
    values = headers[0].metadata
    prefix = files.architecture
    tensors = [tensor for header in headers for tensor in header.tensors]
    if any(tensor.name.startswith("enc.") for tensor in tensors):
        return f"what a step reads is not known: {prefix} is no decoder-only model"
    computed = whole(values.get(f"{prefix}.block_count")) - whole(
        values.get(f"{prefix}.nextn_predict_layers")  # they foretell tokens beyond the next one
    )
    used = [tensor for tensor in tensors if computed <= 0 or layer_of(tensor.name) < computed]
    tied = all(tensor.name != _HEAD for tensor in tensors)
    parts = [
        Part(
            tensor.bytes,
            tensor.elements,
            matrix=len(tensor.shape) > 1,
            experts=bool(_EXPERTS.search(tensor.name)),
            head=tensor.name == _HEAD or tensor.name.startswith(_TABLES),
        )
        for tensor in used
        if not tensor.name.startswith(_TABLES) or (tied and tensor.name == "token_embd.weight")
    ]
    attention, notes = _attention(used, headers[0], prefix)
    return assemble(
        parts,
        experts=whole(values.get(f"{prefix}.expert_count")),
        experts_used=whole(values.get(f"{prefix}.expert_used_count")),
        attention=attention,
        tied=tied,
        notes=notes,
    )


def _attention(
    tensors: Iterable[GgufTensor], header: GgufHeader, prefix: str
) -> tuple[list[Attention], list[str]]:
    """The layers' attention, its sizes taken from the tensors themselves.

    A header may state heads per layer in arrays, or not; rows of the projections say the same.
    ``attn_output`` has heads × value_length columns.
    """
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for tensor in tensors:
        match = _LAYER.fullmatch(tensor.name)
        if match:
            layers.setdefault(int(match["layer"]), {})[match["part"]] = tensor.shape
    is_windowed, window, notes = _window(header, prefix)
    found = []
    for number, parts in sorted(layers.items()):
        sizes = _sizes(parts)
        if sizes:
            seen = window if is_windowed(number) else None
            found.append(
                Attention(layers=1, kv_values=sizes[0], query_values=sizes[1], window=seen)
            )
    without = len(layers) - len(found)
    if without:
        notes.append(
            f"the state of {without} of {len(layers)} layers, which keep no keys, is not counted"
        )
    return merged(found), notes


def _sizes(parts: dict[str, tuple[int, ...]]) -> tuple[int, int] | None:
    """(cached numbers, heads × (key_length + value_length)) of one layer; None: no attention."""
    if "attn_output" not in parts:
        return None
    outputs = parts["attn_output"][0]
    if "attn_k" in parts and "attn_q" in parts:
        # Of some architectures the values are the keys: no attn_v, and nothing else to cache.
        values = parts["attn_v"][1] if "attn_v" in parts else 0
        return parts["attn_k"][1] + values, parts["attn_q"][1] + outputs
    if "attn_qkv" in parts:
        return parts["attn_qkv"][1] - outputs, 2 * outputs
    if "attn_kv_a_mqa" in parts:
        queries = parts.get("attn_q_b") or parts.get("attn_q")
        compressed = "attn_k_b" in parts  # older files hold attn_kv_b: whole keys are cached
        if queries and compressed:
            return parts["attn_kv_a_mqa"][1], queries[1] + outputs
        return (queries[1] + outputs, queries[1] + outputs) if queries else None
    return None


def _window(header: GgufHeader, prefix: str) -> tuple[Callable[[int], bool], int | None, list[str]]:
    """Which layers see a window of how many tokens."""
    window = whole(header.metadata.get(f"{prefix}.attention.sliding_window"))
    key = f"{prefix}.attention.sliding_window_pattern"
    pattern = header.arrays.get(key)
    if window and pattern:
        return (lambda layer: bool(pattern[layer % len(pattern)])), window, []
    if window and key in header.array_lengths:
        note = "which layers see a window is not read: all are counted as if they did"
        return (lambda _: True), window, [note]
    period = whole(header.metadata.get(key)) or WINDOW_PERIODS.get(prefix, 0)
    if not window or not period:
        return (lambda _: False), None, []
    full = 0 if prefix == "smallthinker" else period - 1
    return (lambda layer: layer % period != full), window, []
