"""When was each token available? A buffer that an engine's adapter stamps as it generates."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, MutableSequence, Sequence

Clock = Callable[[], int]
"""A monotonic clock in nanoseconds."""

TOKENS_MARK = 0
"""Index of the generated-token count among the marks that the other process can see."""

UNKNOWN = -1
"""Id of a token that was counted and not named."""


def _nothing() -> None:
    """Observe nothing."""


class Timeline:
    """Token ids and instants of one request, in arrays allocated before the clock runs.

    ``capacity`` is the number of tokens asked of each of ``batch`` sequences, or of a whole queue;
    what comes beyond it is counted, not kept. ``marks`` is shared memory: the number of tokens so
    far, for whoever must explain a death. ``observe`` is called before t_0 and after t_1, the
    borders of the phases; it may read counters of the kernel and must not do more.
    """

    def __init__(
        self,
        capacity: int,
        clock: Clock = time.perf_counter_ns,
        marks: MutableSequence[int] | None = None,
        *,
        batch: int = 1,
        observe: Callable[[], None] = _nothing,
    ) -> None:
        self._capacity = capacity
        self._batch = batch
        self._clock = clock
        self._marks: MutableSequence[int] = [0] if marks is None else marks
        self._observe = observe
        self._instants = array("q", bytes(8 * capacity))
        self._ids = array("q", bytes(8 * capacity * batch))
        self._chunks = array("q")
        self._sequences = array("q")
        self._arrivals = 0
        self.count = 0
        """Tokens of each sequence so far; of a queue, of all together."""
        self.started_ns = 0
        self.rejected: str | None = None
        """Why the numbers of this request mean nothing, when they do not."""
        self._marks[TOKENS_MARK] = 0

    def start(self) -> None:
        """Take t_0: the request is handed to the engine now."""
        self._observe()
        self.started_ns = self._clock()

    def token(self, token_id: int) -> None:
        """Take t_k: one more token of the only sequence is available to the caller now."""
        instant = self._clock()
        position = self.count
        self.count = position + 1
        if position < self._capacity:
            self._instants[position] = instant
            self._ids[position] = token_id
        self._marks[TOKENS_MARK] = self.count
        if not position:
            self._observe()

    def step(self, token_ids: Sequence[int]) -> None:
        """Take t_k of a batch: one more token of each sequence is available now."""
        instant = self._clock()
        position = self.count
        self.count = position + 1
        if position < self._capacity:
            self._instants[position] = instant
            begin = position * self._batch
            self._ids[begin : begin + self._batch] = array("q", token_ids)
        self._marks[TOKENS_MARK] = self.count
        if not position:
            self._observe()

    def chunk(self, token_ids: Sequence[int]) -> None:
        """Several tokens of the only sequence became available together, now.

        A timeline takes either chunks or single tokens.
        """
        instant = self._clock()
        position = self.count
        self.count = position + len(token_ids)
        kept = token_ids[: max(0, self._capacity - position)]
        if kept:
            self._instants[self._arrivals] = instant
            self._arrivals += 1
            self._ids[position : position + len(kept)] = array("q", kept)
        self._chunks.append(len(token_ids))
        self._marks[TOKENS_MARK] = self.count
        if not position:
            self._observe()

    def arrive(self, sequences: Sequence[int], token_ids: Sequence[int]) -> None:
        """Take the instant of a step of a queue: these of its sequences have one more token now."""
        self.chunk(token_ids)
        self._sequences.extend(sequences)

    def reject(self, why: str) -> None:
        """The numbers of this request mean nothing; the first reason is kept."""
        self.rejected = self.rejected or why

    @property
    def instants_ns(self) -> list[int]:
        """Instants of the arrivals kept, in nanoseconds of the clock."""
        arrivals = self._arrivals if self._chunks else self.count
        return self._instants[:arrivals].tolist()

    @property
    def chunk_tokens(self) -> list[int]:
        """Tokens of each arrival; empty when every arrival was one token of each sequence."""
        return self._chunks.tolist()

    @property
    def sequences(self) -> list[int]:
        """Of a queue, the sequence of each token; else empty."""
        return self._sequences.tolist()

    @property
    def token_ids(self) -> list[int]:
        """Ids of the tokens kept, in the order of arrival; of a batch step by step."""
        return self._ids[: self.count * self._batch].tolist()
