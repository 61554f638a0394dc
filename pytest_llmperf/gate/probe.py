"""Is the machine's memory as fast as it usually is? The bandwidth probe against its own history.

The probe does not depend on the build, so what it shows is the machine. A build is not judged on
one that is slower or faster than the one it is compared with, unless this machine comes and goes
like that: then its earlier sessions show what that does to a test.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from pytest_llmperf.gate.statistics import RETURNED_SHARE, came_and_went, current, mad
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary

LEAST_SESSIONS = 3
_LEAST_FALL = -math.log1p(-0.04)
_LEAST_RISE = math.log1p(0.20)
_MADS = 3.5


class MachineSpeed:
    """What a pair's history says about the bandwidth of its machine."""

    def __init__(self, history: Sequence[SessionSummary]) -> None:
        """``history``: the sessions kept, oldest first."""
        machine = history[-1].machine if history else 0
        known = [each.log_probe for each in history if each.machine == machine and not each.guard]
        usual = [each for each in known if each is not None]
        epoch = [each.log_probe for each in current(history)]
        self._seen = [each for each in epoch if each is not None]
        self._usual = statistics.median(usual) if len(usual) >= LEAST_SESSIONS else None
        spread = _MADS * mad(usual, self._usual) if self._usual is not None else 0.0
        self._most_fall, self._most_rise = max(_LEAST_FALL, spread), max(_LEAST_RISE, spread)

    def marked(self, look: InvocationSummary) -> InvocationSummary:
        """The same, with a change of the machine among its findings."""
        change = self.change(look)
        if change is None or change in look.guard:
            return look
        return msgspec.structs.replace(look, guard=(*look.guard, change))

    def change(self, look: InvocationSummary) -> str | None:
        """What is unlike its history, in words; None: nothing, or too little is known."""
        rise = self._rise(look)
        if -rise > self._most_fall and not self._returns(-rise, -1):
            return (
                f"the machine is slower: its bandwidth probe is {-math.expm1(rise):.0%} "
                f"below its own history ({-math.expm1(-self._most_fall):.0%} is usual)"
            )
        if rise > self._most_rise and not self._returns(rise, 1):
            return (
                f"the machine is faster: its bandwidth probe is {math.expm1(rise):.0%} "
                f"above its own history ({math.expm1(self._most_rise):.0%} is usual)"
            )
        return None

    def is_usual(self, look: InvocationSummary) -> bool:
        """Whether it is as on most days, or nothing is known of that."""
        return -self._most_fall <= self._rise(look) <= self._most_rise

    def _rise(self, look: InvocationSummary) -> float:
        if self._usual is None or look.log_probe is None:
            return 0.0
        return look.log_probe - self._usual

    def _returns(self, height: float, sign: int) -> bool:
        """Whether the like came and went twice since the last acceptance."""
        earlier = [sign * (each - (self._usual or 0.0)) for each in self._seen]
        return came_and_went(earlier) >= RETURNED_SHARE * height
