"""Which layers does the model of a GGUF header have, as llama.cpp reads it?

Keys and defaults are those of ``load_arch_hparams`` in llama.cpp's ``src/models/`` and of
``llama-hparams.cpp``. A window or a pattern that llama.cpp ignores is ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NoReturn

import msgspec

from pytest_llmperf.models.errors import BrokenModelFile, UnsupportedModel
from pytest_llmperf.models.layers import (
    MOST_LAYERS,
    Experts,
    FullAttention,
    LatentAttention,
    Layer,
    Layers,
    Recurrent,
    SlidingAttention,
)
from pytest_llmperf.models.traffic_gguf import WINDOW_PERIODS

Number = int | float | bool | str

ARCHITECTURES = (
    "bloom",
    "deepseek2",
    "falcon",
    "gemma2",
    "gemma3",
    "gpt-oss",
    "gpt2",
    "jamba",
    "llama",
    "mamba",
    "phi2",
    "phi3",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "qwen3next",
)
"""By llama.cpp's ``general.architecture``; Mistral and Mixtral are ``llama`` there."""

WINDOWED = {name: WINDOW_PERIODS[name] for name in ("gemma2", "gemma3", "gpt-oss")}
"""The architectures whose windows llama.cpp obeys: every n-th layer sees everything."""

_GEMMA2_WINDOW = 4096  # llama.cpp's default where the header does not say


class GgufFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a header says, of all shards together."""

    origin: str
    """The file, for messages."""
    metadata: Mapping[str, Number]
    arrays: Mapping[str, tuple[Number, ...]] = {}
    """Arrays of numbers: sizes that differ from layer to layer."""
    array_lengths: Mapping[str, int] = {}
    tensor_names: Collection[str] = ()

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, which begins every key."""
        name = self.metadata.get("general.architecture")
        if not isinstance(name, str) or not name:
            self.fail("general.architecture", "must be a text", name)
        return name

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """Return a whole number of at least ``least``. Raises BrokenModelFile naming the key."""
        key = f"{self.architecture}.{key}"
        value = self.metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self.fail(key, f"must be a whole number of at least {least}", value)
        return value

    def per_layer(self, key: str, layers: int, default: list[int] | None = None) -> list[int]:
        """Return a number for each layer, which the header states once or in an array."""
        full_key = f"{self.architecture}.{key}"
        if full_key in self.arrays:
            return self._array(full_key, layers)
        if full_key in self.array_lengths:
            self.fail(full_key, "must state a number per layer", "another array")
        if full_key not in self.metadata and default is not None:
            return default
        return [self.count(key, least=0)] * layers

    def _array(self, full_key: str, layers: int) -> list[int]:
        values = self.arrays[full_key]
        if len(values) < layers:
            self.fail(full_key, f"must have an item for each of {layers} layers", len(values))
        for value in values[:layers]:
            if not isinstance(value, int) or value < 0:
                self.fail(full_key, "must hold whole numbers of at least 0", value)
        return [int(value) for value in values[:layers]]

    def fail(self, key: str, wanted: str, value: object) -> NoReturn:
        """Raise BrokenModelFile."""
        found = "is missing" if value is None else f"is {value!r}"
        raise BrokenModelFile(
            f"{self.origin}: metadata {key!r} {found}; it {wanted}. Convert the model again."
        )


def layers_of_gguf(facts: GgufFacts) -> Layers:
    """Return the layers of the model that a header describes.

    Raises BrokenModelFile naming a key that is missing or wrong, UnsupportedModel for an
    architecture that is not among :data:`ARCHITECTURES`.
    """
    name = facts.architecture
    if name not in ARCHITECTURES:
        raise UnsupportedModel(
            f"{facts.origin}: what the layers of architecture {name!r} keep is not known here. "
            f"Known: {', '.join(ARCHITECTURES)}."
        )
    # Layers that foretell further tokens stand behind the others and keep nothing by themselves.
    count = facts.count("block_count") - facts.count("nextn_predict_layers", 0, least=0)
    if not 0 < count <= MOST_LAYERS:
        facts.fail(f"{name}.block_count", f"must leave 1 to {MOST_LAYERS} layers", count)
    heads = [0] if name == "mamba" else facts.per_layer("attention.head_count", count)
    experts = facts.count("expert_count", 0, least=0)
    return Layers(
        hidden=facts.count("embedding_length"),
        vocab=_vocab(facts),
        heads=max(heads),
        layers=tuple(_layers(facts, count)),
        max_context=facts.count("context_length"),
        tied="output.weight" not in facts.tensor_names,
        experts=Experts(experts, facts.count("expert_used_count")) if experts else None,
    )


def as_converted(layers: Layers, model_type: str) -> Layers:
    """Return what becomes of a config's layers in a GGUF file of the model.

    llama.cpp obeys the windows of few architectures; the others' layers keep all tokens.
    """
    if model_type.removesuffix("_text").replace("_", "-") in WINDOWED:
        return layers
    return msgspec.structs.replace(
        layers,
        layers=tuple(
            FullAttention(each.kv_heads, each.key_length, each.value_length)
            if isinstance(each, SlidingAttention)
            else each
            for each in layers.layers
        ),
    )


def _layers(facts: GgufFacts, count: int) -> list[Layer]:
    name = facts.architecture
    if name == "mamba":
        return [_recurrent(facts)] * count
    if name == "deepseek2" and f"{name}.attention.key_length_mla" in facts.metadata:
        return [_latent(facts)] * count
    heads = facts.per_layer("attention.head_count", count)
    kv_heads = facts.per_layer("attention.head_count_kv", count, heads)
    key, value = _length(facts, "key", heads), _length(facts, "value", heads)
    recurrent = _recurrent_layers(facts, count, kv_heads)
    windows = _windows(facts, count)
    found: list[Layer] = []
    for index in range(count):
        if recurrent[index]:
            found.append(_recurrent(facts))
        elif windows[index]:
            found.append(SlidingAttention(kv_heads[index], key, value, windows[index]))
        else:
            found.append(FullAttention(kv_heads[index], key, value))
    return found


def _recurrent_layers(facts: GgufFacts, count: int, kv_heads: list[int]) -> list[bool]:
    if facts.architecture == "jamba":
        return [not heads for heads in kv_heads]
    if facts.architecture != "qwen3next":
        return [False] * count
    key = f"{facts.architecture}.attention.recurrent_layers"
    if key in facts.arrays:
        return [bool(each) for each in facts.per_layer("attention.recurrent_layers", count)]
    period = facts.count("full_attention_interval", 4)
    return [(index + 1) % period != 0 for index in range(count)]


def _windows(facts: GgufFacts, count: int) -> list[int]:
    """Tokens that each layer sees; 0: all."""
    name = facts.architecture
    if name not in WINDOWED:
        return [0] * count
    default = {"gemma2": _GEMMA2_WINDOW, "gemma3": 0}.get(name)
    window = facts.count("attention.sliding_window", default, least=0)
    key = "attention.sliding_window_pattern"
    if f"{name}.{key}" in facts.arrays:
        return [window if each else 0 for each in facts.per_layer(key, count)]
    period = facts.count(key, WINDOWED[name], least=0)  # 0: no layer sees everything
    return [window if not period or index % period < period - 1 else 0 for index in range(count)]


def _length(facts: GgufFacts, which: str, heads: list[int]) -> int:
    """Numbers of a head; where the header does not say, a head's share of the width."""
    share = facts.count("embedding_length") // max(1, heads[0])
    return facts.count(f"attention.{which}_length", share)


def _latent(facts: GgufFacts) -> LatentAttention:
    rank, row = facts.count("attention.kv_lora_rank"), facts.count("attention.key_length")
    if row <= rank:
        facts.fail("deepseek2.attention.key_length", f"must be more than the rank {rank}", row)
    whole = FullAttention(
        facts.count("attention.head_count"),
        facts.count("attention.key_length_mla"),
        facts.count("attention.value_length_mla"),
    )
    return LatentAttention(rank, row - rank, whole)


def _recurrent(facts: GgufFacts) -> Recurrent:
    """(d_conv − 1) × (d_inner + 2 × n_group × d_state), and d_state × d_inner: ``n_embd_s``."""
    inner, state = facts.count("ssm.inner_size"), facts.count("ssm.state_size")
    channels = inner + 2 * facts.count("ssm.group_count", 0, least=0) * state
    return Recurrent(channels, facts.count("ssm.conv_kernel"), state * inner)


def _vocab(facts: GgufFacts) -> int:
    if f"{facts.architecture}.vocab_size" in facts.metadata:
        return facts.count("vocab_size")
    tokens = facts.array_lengths.get("tokenizer.ggml.tokens", 0)
    if not tokens:
        facts.fail("tokenizer.ggml.tokens", "must be a list of texts", None)
    return tokens
