"""Which key-value cache does a request to transformers get, and what was really in it?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_llmperf.backends.protocol import EngineRefused, Request
from pytest_llmperf.backends.transformers_packing import held_bytes

if TYPE_CHECKING:
    from pytest_llmperf.backends.transformers import TransformersOptions

CacheKind = Literal["dynamic", "static", "quantized", "off"]
"""``off``: each step reads all tokens again."""
CacheQuantizer = Literal["quanto", "fp8"]

_QUANTO = {"nbits": 4, "q_group_size": 64, "residual_length": 128}
"""What ``QuantizedCache`` takes when nothing is said: bits, numbers, tokens."""


class CacheUse(NamedTuple):
    """What a quantized cache held when its request had ended."""

    tokens: int
    quantized_tokens: int
    element_bytes: float
    """Of a quantized number, scales included."""


class RequestCaches:
    """Makes the cache of each request; nothing of an earlier one is in it."""

    def __init__(self, config: Any, options: TransformersOptions) -> None:
        """``config``: the model's. Raises EngineRefused for options that contradict each other."""
        self._config = config
        self.kind: CacheKind = options.cache_implementation
        is_quantized = self.kind == "quantized"
        if options.cache_backend is not None and not is_quantized:
            raise EngineRefused("cache_backend needs cache_implementation='quantized'")
        self.quantizer = (options.cache_backend or "quanto") if is_quantized else None
        self.quantizing = self._quantizing(options)

    def _quantizing(self, options: TransformersOptions) -> dict[str, int]:
        """Arguments of the quantizer."""
        given = {
            "cache_nbits": options.cache_nbits,
            "cache_group_size": options.cache_group_size,
            "cache_residual_length": options.cache_residual_length,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if self.quantizer != "quanto":
            for name in given:
                raise EngineRefused(
                    f"{name} needs cache_implementation='quantized' with cache_backend='quanto'"
                )
            return {}
        taken = {name: given.get(f"cache_{name.removeprefix('q_')}") for name in _QUANTO}
        found = {name: value or _QUANTO[name] for name, value in taken.items()}
        _refuse_ragged_groups(self._config, found["q_group_size"])
        return found

    @property
    def in_force(self) -> dict[str, Any]:
        """The options that were not given, as they are."""
        sizes = {f"cache_{name.removeprefix('q_')}": size for name, size in self.quantizing.items()}
        return {"cache_backend": self.quantizer, **sizes}

    def make(self, tokens: int) -> Any:
        """An empty cache for a request of so many tokens, prompt and answer."""
        import transformers

        if self.kind == "off":
            raise EngineRefused("cache_implementation=off keeps no tokens ahead: ask for depth=0")
        if self.kind == "static":
            # generate() itself would keep the size of the largest request that it ever saw
            return transformers.StaticCache(config=self._config, max_cache_len=tokens)
        if self.kind == "quantized":
            return transformers.QuantizedCache(self.quantizer, self._config, **self.quantizing)
        return transformers.DynamicCache(config=self._config)

    def use(self, cache: Any) -> CacheUse | None:
        """What is quantized in it, by its first layer; None: nothing was to be.

        Raises EngineRefused when nothing is, though it was asked for.
        """
        if self.kind != "quantized":
            return None
        layer = cache.layers[0]
        keys, values = layer._quantized_keys, layer._quantized_values
        if keys is None or values is None:
            raise EngineRefused("cache_implementation=quantized quantized nothing")
        packed = keys[0] if isinstance(keys, tuple) else keys
        quantized = int(packed.shape[-2])
        size = sum(_bytes_of(each) for each in (keys, values))
        return CacheUse(
            tokens=int(layer.get_seq_length()),
            quantized_tokens=quantized,
            element_bytes=size / (2 * packed.numel()),
        )

    @contextmanager
    def refusing_cached_steps(self, model: Any, trials: Sequence[Request]) -> Iterator[None]:
        """See that each step of ``trials`` reads all tokens, where no cache was asked for.

        Raises EngineRefused after them if one did not, or was not seen.
        """
        if self.kind != "off":
            yield
            return
        read: list[int] = []

        def count(_module: Any, _positional: Any, given: dict[str, Any]) -> None:
            ids = given.get("input_ids")
            read.append(0 if ids is None else int(ids.shape[1]))

        hook = model.register_forward_pre_hook(count, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
        expected = [
            len(trial.prompts[0]) + step for trial in trials for step in range(trial.new_tokens)
        ]
        if read != expected:
            raise EngineRefused(
                f"cache_implementation=off, but steps read {read} tokens, and {expected} without "
                "a cache"
            )


def _refuse_ragged_groups(config: Any, group_size: int) -> None:
    """Groups span heads and tokens: what a token has must be a whole number of them.

    Otherwise a request would fail in the middle, at the first length that does not divide.
    """
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if heads * width % group_size:
        raise EngineRefused(
            f"cache_group_size={group_size} does not divide the {heads} × {width} keys of a token: "
            f"give cache_group_size={math.gcd(heads * width, group_size)}"
        )


def _bytes_of(quantized: Any) -> int:
    parts = quantized if isinstance(quantized, tuple) else (quantized,)
    return sum(held_bytes(each) for each in parts)
