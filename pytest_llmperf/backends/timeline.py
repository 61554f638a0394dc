"""When was each token available? A buffer that an engine's adapter stamps as it generates."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, MutableSequence

Clock = Callable[[], int]
"""A monotonic clock in nanoseconds."""

TOKENS_MARK = 0
"""Index of the generated-token count among the marks that the other process can see."""


class Timeline:
    """Token ids and instants of one request, in arrays allocated before the clock runs.

    ``capacity`` is the number of tokens asked for; tokens beyond it are counted, not kept.
    ``marks`` is shared memory: the number of tokens so far, for whoever must explain a death.
    """

    def __init__(
        self,
        capacity: int,
        clock: Clock = time.perf_counter_ns,
        marks: MutableSequence[int] | None = None,
    ) -> None:
        self._capacity = capacity
        self._clock = clock
        self._marks: MutableSequence[int] = [0] if marks is None else marks
        self._instants = array("q", bytes(8 * capacity))
        self._ids = array("q", bytes(8 * capacity))
        self.count = 0
        self.started_ns = 0
        self._marks[TOKENS_MARK] = 0

    def start(self) -> None:
        """Take t_0: the request is handed to the engine now."""
        self.started_ns = self._clock()

    def token(self, token_id: int) -> None:
        """Take t_k: one more token is available to the caller now."""
        instant = self._clock()
        position = self.count
        self.count = position + 1
        if position < self._capacity:
            self._instants[position] = instant
            self._ids[position] = token_id
        self._marks[TOKENS_MARK] = self.count

    @property
    def instants_ns(self) -> list[int]:
        """Instants of the tokens kept, in nanoseconds of the clock."""
        return self._instants[: self.count].tolist()

    @property
    def token_ids(self) -> list[int]:
        """Ids of the tokens kept."""
        return self._ids[: self.count].tolist()
