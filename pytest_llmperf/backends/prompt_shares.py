"""What do vLLM's log-probabilities of a prompt say of each of its tokens?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pytest_llmperf.backends.protocol import EngineRefused, LogProbs


class Share(Protocol):
    """Of one token in one place."""

    @property
    def logprob(self) -> float:
        """The natural logarithm of its probability."""
        ...

    @property
    def rank(self) -> int | None:
        """1: the likeliest."""
        ...


def read_shares(shares: Sequence[Mapping[int, Share]], tokens: Sequence[int]) -> LogProbs:
    """``shares``: of each place, by token; the first is not looked at. Raises EngineRefused."""
    told, likeliest = [], []
    for place, token in enumerate(tokens[1:], start=1):
        here = shares[place] if place < len(shares) else {}
        first = [each for each, share in here.items() if share.rank == 1]
        if token not in here or not first:
            raise EngineRefused(
                f"of token {place + 1} of {len(tokens)} vLLM does not tell both its own "
                "log-probability and the likeliest token"
            )
        told.append(here[token].logprob)
        likeliest.append(first[0])
    return LogProbs(told=told, likeliest=likeliest)
