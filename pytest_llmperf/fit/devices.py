"""How is a model shared among the GPUs and the main memory of a room?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pytest_llmperf.fit.room import Room


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """So many layers on GPUs, and what each of these takes of them."""

    gpu_layers: int = 0
    """Of the last layers, the output counted as one of them; as many as there are: all."""
    shares: tuple[float, ...] = ()
    """Each GPU's part of what is on GPUs, by number; together 1."""

    @property
    def gpus(self) -> int:
        """How many take part."""
        return sum(share > 0 for share in self.shares) if self.gpu_layers else 0


def shares_of(room: Room) -> tuple[float, ...]:
    """Parts of all GPUs, in proportion to their memory, as engines share layers by themselves."""
    if room.is_shared:
        return (1.0,)
    return tuple(each / sum(room.vram) for each in room.vram)


def largest(holds: Callable[[int], bool], limit: int) -> int:
    """The largest number from 0 to ``limit`` for which it holds, if it does up to there."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
