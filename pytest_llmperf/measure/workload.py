"""What is asked of the model, and with which prompts?"""

from __future__ import annotations

import random

import msgspec


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request, repeated: prompt length, tokens to generate, seed of the prompts."""

    prompt_tokens: int = 512
    new_tokens: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "new_tokens"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be a whole number, not {self.seed!r}")

    @property
    def total_tokens(self) -> int:
        """Tokens of context that one request takes."""
        return self.prompt_tokens + self.new_tokens

    def prompt(self, position: int, vocab_size: int) -> list[int]:
        """Token ids of the prompt of request number ``position``, each below ``vocab_size``.

        The same on every machine and backend for one seed, and different for each position: a
        prefix cache would otherwise flatter every request but the first.
        """
        source = random.Random(f"llmperf:{self.seed}:{position}")  # noqa: S311 - reproducible
        return source.choices(range(vocab_size), k=self.prompt_tokens)
