"""Is the machine as fast as it usually is? Its probes against their own history.

What a probe shows is the machine, for it does not depend on the build: the bandwidth of the memory,
and the speed of the cores at plain code. A build is not judged on a machine that is slower or
faster than the one it is compared with, unless this machine comes and goes like that: then its
earlier sessions show what that does to a test.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import msgspec

from pytest_llmperf.gate.past import (
    NOISE_SESSIONS,
    RETURNED_SHARE,
    came_and_went,
    current,
    grown,
    mad,
)
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary

LEAST_SESSIONS = 3
_LEAST_FALL = -math.log1p(-0.04)
_LEAST_RISE = math.log1p(0.20)
_MADS = 3.5

_Read = Callable[[InvocationSummary], float | None]


class MachineSpeed:
    """What a pair's history says about the speed of its machine."""

    def __init__(self, history: Sequence[SessionSummary]) -> None:
        """``history``: the sessions kept, oldest first."""
        self._gauges = (
            _Gauge("its bandwidth probe is", history, lambda each: each.log_probe),
            _Gauge("the speed of its cores is", history, lambda each: each.log_core),
        )

    def marked(self, look: InvocationSummary) -> InvocationSummary:
        """The same, with a change of the machine among its findings, or a habit noted."""
        changes = [change for gauge in self._gauges if (change := gauge.change(look))]
        return msgspec.structs.replace(
            look,
            unusual=not all(gauge.is_usual(look) for gauge in self._gauges),
            guard=tuple(dict.fromkeys((*look.guard, *changes))),
        )


class _Gauge:
    """One probe: what it usually reads, and by how much it came and went."""

    def __init__(self, what: str, history: Sequence[SessionSummary], read: _Read) -> None:
        self._what, self._read = what, read
        machine = history[-1].machine if history else 0
        calm = [each for each in grown(history) if not (each.guard or each.unusual)]
        known = [read(each) for each in calm if each.machine == machine]
        usual = [value for value in known if value is not None]
        latest = current(history)[-NOISE_SESSIONS:]
        epoch = [value for each in latest if (value := read(each)) is not None]
        self._middle = statistics.median(usual) if len(usual) >= LEAST_SESSIONS else None
        self._rises = [] if self._middle is None else [each - self._middle for each in epoch]
        spread = 0.0 if self._middle is None else _MADS * mad(usual, self._middle)
        self._most_fall, self._most_rise = max(_LEAST_FALL, spread), max(_LEAST_RISE, spread)

    def change(self, look: InvocationSummary) -> str | None:
        """What is unlike its history, in words; None: nothing, or too little is known."""
        rise = self._rise(look)
        if -rise > self._most_fall and not self._returns(-rise, -1):
            return (
                f"the machine is slower: {self._what} {-math.expm1(rise):.0%} "
                f"below its own history ({-math.expm1(-self._most_fall):.0%} is usual)"
            )
        if rise > self._most_rise and not self._returns(rise, 1):
            return (
                f"the machine is faster: {self._what} {math.expm1(rise):.0%} "
                f"above its own history ({math.expm1(self._most_rise):.0%} is usual)"
            )
        return None

    def is_usual(self, look: InvocationSummary) -> bool:
        """Whether it reads as on most days."""
        return -self._most_fall <= self._rise(look) <= self._most_rise

    def _rise(self, look: InvocationSummary) -> float:
        value = self._read(look)
        return 0.0 if self._middle is None or value is None else value - self._middle

    def _returns(self, height: float, sign: int) -> bool:
        """Whether the like came and went twice since the last acceptance."""
        return came_and_went([sign * each for each in self._rises]) >= RETURNED_SHARE * height
