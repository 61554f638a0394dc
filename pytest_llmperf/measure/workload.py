"""What is asked of the model, and with which prompts?"""

from __future__ import annotations

import random

import msgspec

from pytest_llmperf.backends import Request
from pytest_llmperf.measure.passages import Passages

RANDOM = "random"


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request, repeated: what is read, what is generated, by how many sequences.

    With ``shortest`` it is a queue: ``batch`` requests that are handed over together, whose lengths
    are spread evenly from ``shortest`` to ``new_tokens``.
    """

    prompt_tokens: int = 512
    new_tokens: int = 128
    batch: int = 1
    """Sequences decoded in step; of a queue, its requests."""
    depth: int = 0
    """Tokens that each sequence holds already when the clock starts."""
    seed: int = 0
    """Of the prompts."""
    prompts: str = RANDOM
    """What they are made of: random token ids, the shipped text, or a text file."""
    shortest: int | None = None
    """Tokens of the shortest request of a queue, ``new_tokens`` being those of the longest; None:
    no queue, all are alike."""

    def __post_init__(self) -> None:
        for name, least in (("prompt_tokens", 1), ("new_tokens", 1), ("batch", 1), ("depth", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, not {value!r}"
                )
        prompts: object = self.prompts
        if not isinstance(prompts, str) or not prompts:
            raise ValueError(
                f"prompts must be {RANDOM!r}, 'shipped' or the path of a text, not {prompts!r}"
            )
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be a whole number, not {self.seed!r}")
        self._refuse_what_is_no_queue()

    def _refuse_what_is_no_queue(self) -> None:
        """Raises ValueError."""
        shortest = self.shortest
        if shortest is None:
            return
        if type(shortest) is not int or not 1 <= shortest < self.new_tokens:
            raise ValueError(
                "new_tokens of a queue are those of its shortest and of its longest request, such "
                f"as (8, 64), not ({shortest!r}, {self.new_tokens})"
            )
        if self.batch < 2 or self.depth:
            raise ValueError(
                f"a queue, new_tokens=({shortest}, {self.new_tokens}), takes batch=2 or more "
                f"requests and depth=0, not batch={self.batch} and depth={self.depth}"
            )

    @property
    def lengths(self) -> list[int]:
        """New tokens of each request of a queue, shuffled by the seed; empty: no queue."""
        if self.shortest is None:
            return []
        more, last = self.new_tokens - self.shortest, self.batch - 1
        spread = [self.shortest + (2 * more * i + last) // (2 * last) for i in range(self.batch)]
        random.Random(f"llmperf:lengths:{self.seed}").shuffle(spread)  # noqa: S311 - reproducible
        return spread

    @property
    def new(self) -> str:
        """New tokens as they are written: ``64``, or ``8..64`` of a queue."""
        return f"{self.shortest}..{self.new_tokens}" if self.shortest else str(self.new_tokens)

    @property
    def total_tokens(self) -> int:
        """Tokens of context that one sequence takes."""
        return self.depth + self.prompt_tokens + self.new_tokens

    @property
    def decode_depth(self) -> float:
        """Tokens in the cache at the middle of the decode, per sequence."""
        return self.depth + self.prompt_tokens + self.new_tokens / 2

    @property
    def prompt_length(self) -> int:
        """Tokens that a prompt has, with those that are held when the clock starts."""
        return self.depth + self.prompt_tokens

    def request(
        self, position: int, vocab_size: int, salt: str = "", text: Passages | None = None
    ) -> Request:
        """Request number ``position``: passages of ``text``, or token ids below ``vocab_size``.

        The same on every machine and backend for one seed, and different for each position and
        sequence: a prefix cache would otherwise flatter every request but the first. ``salt``
        makes them others: for an engine that outlives the measurement, and its cache with it.
        Raises ValueError where the text has no more passages.
        """
        salted = f":{salt}" if salt else ""
        source = random.Random(f"llmperf:{self.seed}:{position}{salted}")  # noqa: S311 - reproducible
        length = self.prompt_length

        def prompt(sequence: int) -> list[int]:
            if text is None:
                return source.choices(range(vocab_size), k=length)
            number = position * self.batch + sequence
            return text.take(number, length, f"llmperf:{self.seed}{salted}")

        return Request(
            prompts=[prompt(sequence) for sequence in range(self.batch)],
            new_tokens=self.new_tokens,
            depth=self.depth,
            lengths=self.lengths,
        )
