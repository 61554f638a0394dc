"""How much memory will a model take, on which device, and for what?

What follows from the model (weights, caches) is a number of bytes, what an engine decides for
itself (buffers, its own code) an interval. The context length belongs to every footprint.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

RAM = "ram"


class Interval(msgspec.Struct, frozen=True):
    """Between these, both included; bytes."""

    low: int
    high: int

    @classmethod
    def exactly(cls, size: int) -> Interval:
        """No doubt."""
        return cls(size, size)

    @classmethod
    def around(cls, middle: float, share: float) -> Interval:
        """``middle`` and ``share`` of it to both sides."""
        return cls(round(middle * (1 - share)), round(middle * (1 + share)))

    @classmethod
    def shares(cls, whole: int, shares: tuple[float, float]) -> Interval:
        """From the one to the other share of ``whole``."""
        return cls(round(whole * shares[0]), round(whole * shares[1]))

    @property
    def middle(self) -> int:
        """Halfway."""
        return (self.low + self.high) // 2

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


NOTHING = Interval(0, 0)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one device has to hold, in bytes."""

    device: str
    """``ram``, or ``vram:0`` and so on."""
    weights: Interval = NOTHING
    copies: int = 0
    """Weights that are there once more, in another order; the mapped file's pages can go then."""
    cache: int = 0
    """Keys, values and recurrent states of all sequences."""
    compute: Interval = NOTHING
    """Buffers of a step: activations, logits, scores."""
    overhead: Interval = NOTHING
    """The engine's own code and data, the interpreter's among them."""

    @property
    def needed(self) -> int:
        """The least without which nothing runs: weights and cache."""
        return self.weights.low + self.cache

    def together(self, other: Share) -> Share:
        """What the device holds of two models in one process."""
        return Share(
            device=self.device,
            weights=self.weights + other.weights,
            copies=self.copies + other.copies,
            cache=self.cache + other.cache,
            compute=self.compute + other.compute,
            overhead=self.overhead + other.overhead,
        )

    @property
    def total(self) -> Interval:
        """The peak."""
        known = Interval.exactly(self.cache + self.copies)
        return self.weights + known + self.compute + self.overhead


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What one way of running a model takes."""

    context_tokens: int
    """Of each sequence."""
    sequences: int = 1
    shares: tuple[Share, ...]
    """Main memory first."""
    notes: tuple[str, ...] = ()
    """What could not be told."""

    def on(self, device: str) -> Share:
        """What one device holds; nothing where it takes no part."""
        return next((each for each in self.shares if each.device == device), Share(device=device))

    def with_another(self, model: Footprint) -> Footprint:
        """Of both, each as it would be alone; the engine's own is counted by whoever made them."""
        together = (each.together(model.on(each.device)) for each in self.shares)
        notes = dict.fromkeys((*self.notes, *model.notes))
        return msgspec.structs.replace(self, shares=tuple(together), notes=tuple(notes))

    @property
    def gpus(self) -> tuple[Share, ...]:
        """What each GPU holds."""
        return tuple(each for each in self.shares if each.device != RAM)

    @property
    def total(self) -> Interval:
        """On all devices together."""
        return total(each.total for each in self.shares)


def total(intervals: Iterable[Interval]) -> Interval:
    """The sum of several."""
    return sum(intervals, NOTHING)
