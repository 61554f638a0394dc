"""What is asked of the model, and with which prompts?"""

from __future__ import annotations

import random

import msgspec

from pytest_llmperf.backends import Request


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request, repeated: what is read, what is generated, by how many sequences."""

    prompt_tokens: int = 512
    new_tokens: int = 128
    batch: int = 1
    """Sequences decoded in step."""
    depth: int = 0
    """Tokens that each sequence holds already when the clock starts."""
    seed: int = 0
    """Of the prompts."""

    def __post_init__(self) -> None:
        for name, least in (("prompt_tokens", 1), ("new_tokens", 1), ("batch", 1), ("depth", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, not {value!r}"
                )
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be a whole number, not {self.seed!r}")

    @property
    def total_tokens(self) -> int:
        """Tokens of context that one sequence takes."""
        return self.depth + self.prompt_tokens + self.new_tokens

    @property
    def decode_depth(self) -> float:
        """Tokens in the cache at the middle of the decode, per sequence."""
        return self.depth + self.prompt_tokens + self.new_tokens / 2

    def request(self, position: int, vocab_size: int, salt: str = "") -> Request:
        """Request number ``position``, its prompts made of token ids below ``vocab_size``.

        The same on every machine and backend for one seed, and different for each position and
        sequence: a prefix cache would otherwise flatter every request but the first. ``salt``
        makes them others: for an engine that outlives the measurement, and its cache with it.
        """
        salted = f":{salt}" if salt else ""
        source = random.Random(f"llmperf:{self.seed}:{position}{salted}")  # noqa: S311 - reproducible
        length = self.depth + self.prompt_tokens
        return Request(
            prompts=[source.choices(range(vocab_size), k=length) for _ in range(self.batch)],
            new_tokens=self.new_tokens,
            depth=self.depth,
        )
