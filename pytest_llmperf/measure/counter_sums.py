"""By how much did the kernel's counters grow over all samples?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pytest_llmperf.hardware.counter_files import Unknown
from pytest_llmperf.hardware.counters import CounterReading
from pytest_llmperf.worker.usage import Usage


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """The readings around one sample, and the worker's own at t_0, t_1 and t_n."""

    before: CounterReading
    after: CounterReading
    usages: list[Usage]


class NotKnown(Exception):
    """Something cannot be told, for this reason."""

    def __init__(self, reason: Unknown | str) -> None:
        super().__init__()
        self.reason = Unknown(why=reason) if isinstance(reason, str) else reason


class Sums:
    """The differences of all blocks together."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._readings = [each for block in blocks for each in (block.before, block.after)]
        self.wall_s = sum(block.after.wall_ns - block.before.wall_ns for block in blocks) / 1e9
        self.dearest_ns = max((reading.cost_ns for reading in self._readings), default=0)

    def grown(self, name: str) -> int:
        """Growth of one counter. Raises NotKnown when any reading lacks it, or when it fell."""
        if not self._blocks:
            raise NotKnown("no sample was measured")
        total = 0
        for block in self._blocks:
            before, after = block.before.value(name), block.after.value(name)
            if isinstance(before, Unknown):
                raise NotKnown(before)
            if isinstance(after, Unknown):
                raise NotKnown(after)
            if after < before:
                raise NotKnown(f"{name} went backwards")
            total += after - before
        return total

    def share(self, name: str) -> float:
        """Growth of a time in nanoseconds ÷ wall time; of a time on cores: how many cores.

        Raises NotKnown.
        """
        grown_ns = self.grown(name)
        if self.wall_s <= 0:
            raise NotKnown("the samples took no time")
        return grown_ns / 1e9 / self.wall_s

    def largest(self, prefix: str, ending: str) -> str:
        """Name of the counter that grew most among ``prefix…ending``. Raises NotKnown."""
        names = [f"{prefix}{name}" for name in self.names(prefix) if name.endswith(ending)]
        return max(names or [f"{prefix}{ending}"], key=self.grown)

    def names(self, prefix: str) -> list[str]:
        """Counters that some reading has, without the prefix."""
        found = {name for reading in self._readings for name in reading.counters}
        return sorted(name.removeprefix(prefix) for name in found if name.startswith(prefix))

    def never_read(self, part: str) -> dict[str, Unknown]:
        """Why no reading has the counters of a part; by the first part of their names."""
        return {
            first: reason
            for reading in self._readings
            for first, reason in reading.unknown.items()
            if first.startswith(part) and not self.names(f"{first}.")
        }
