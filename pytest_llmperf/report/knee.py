"""From where on does more of something bring little more? The knee of a measured series.

The knee is the value of the parameter beyond which no doubling brings 10 % more. There are finer
definitions (Kneedle: the point farthest from the line between both ends; Satopää et al., *Finding a
"Kneedle" in a Haystack*, 2011); theirs moves with the last point, and needs more than a sweep has.

What a span from one point to a later one brings is uncertain. Each median may be off by its notch,
1.57 interquartile ranges by the square root of the number of samples (McGill, Tukey, Larsen,
*Variations of Box Plots*, 1978: medians whose notches do not meet differ, at about 95 %), and by no
less than what the gate tolerates of another process.

The knee lies beyond every point from which some span is worth it for certain. The first point after
those is the knee if each doubling from it on brings little for certain: steps within a doubling are
judged together, since under no noise could the one from 7 to 8 threads be told alone. Else noise
hides the knee, as it does where a later point is surely better than an earlier one, and by enough
as measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pytest_llmperf.gate.verdict import TOLERANCE
from pytest_llmperf.measure import Quantity
from pytest_llmperf.report import words

WORTH = 0.10
"""What a doubling has to bring."""
LEAST_POINTS = 3
_NOTCH = 1.57


@dataclass(frozen=True)
class Point:
    """One value of the parameter, and what was measured there: more is better."""

    at: float
    value: float
    noise: float
    """How far off the value may be, as a share of it."""


class Kind(Enum):
    """What a span brings, for certain or not."""

    WORTH_IT = "worth it"
    LITTLE = "little"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Span:
    """From one point to a later one."""

    before: Point
    after: Point

    @property
    def change(self) -> float:
        """As a share."""
        return self.after.value / self.before.value - 1

    @property
    def noise(self) -> float:
        """Of the change's logarithm."""
        return math.hypot(self.before.noise, self.after.noise)

    @property
    def falls(self) -> bool:
        """Whether it ends lower for certain."""
        return math.log1p(self.change) + self.noise < 0

    @property
    def is_promising(self) -> bool:
        """Whether it ends higher for certain, and by enough if the values are right."""
        change = math.log1p(self.change)
        return change > self.noise and change >= self._worth

    @property
    def kind(self) -> Kind:
        """By what a doubling brings."""
        change = math.log1p(self.change)
        if change - self.noise >= self._worth:
            return Kind.WORTH_IT
        return Kind.LITTLE if change + self.noise < self._worth else Kind.UNCLEAR

    @property
    def _worth(self) -> float:
        """Logarithm of what it has to bring; from 0 nothing doubles, and it counts as one."""
        doublings = math.log2(self.after.at / self.before.at) if self.before.at > 0 else 1.0
        return math.log1p(WORTH) * doublings

    def __str__(self) -> str:
        between = f"from {words.limit(self.before.at)} to {words.limit(self.after.at)}"
        return f"{words.change(self.change)} {between}"


def noise_of(quantity: Quantity) -> float:
    """How far off a median above 0 may be, as a share of it."""
    notch = _NOTCH * (quantity.high - quantity.low) / math.sqrt(quantity.n)
    return max(notch / quantity.median, TOLERANCE)


def knee_text(points: Sequence[Point]) -> str:
    """Where the knee is, in words. ``points``: three or more, ascending, none below 0."""
    knee = _least_knee(points)
    at = words.limit(points[knee].at)
    if knee == len(points) - 1:
        return f"no knee up to {at}: {Span(*points[-2:])}"
    hidden = _hidden_by(points[knee:])
    if hidden is not None:
        beyond = f", at {at} or beyond" if knee else ""
        return f"noise hides the knee{beyond}: {hidden}, ± {words.percent(hidden.noise)}"
    rest = Span(points[knee], points[-1])
    if knee:
        return f"knee at {at}: {'falls beyond, ' * rest.falls}{rest}"
    return f"{'falls' if rest.falls else 'no gain'} from {at} on: {rest}"


def _least_knee(points: Sequence[Point]) -> int:
    """The first point from which nothing is worth it for certain."""
    numbered = itertools.combinations(enumerate(points), 2)
    return max(
        (at + 1 for (at, a), (_, b) in numbered if Span(a, b).kind is Kind.WORTH_IT), default=0
    )


def _hidden_by(tail: Sequence[Point]) -> Span | None:
    """What may be worth it between two or more points; None: they bring little, for certain."""
    unclear = (each for each in _doublings(tail) if each.kind is Kind.UNCLEAR)
    pairs = itertools.starmap(Span, itertools.combinations(tail, 2))
    promising = (each for each in pairs if each.is_promising)
    return next(itertools.chain(unclear, promising), None)


def _doublings(tail: Sequence[Point]) -> list[Span]:
    """From each point to the first at twice as much; the last of them reaches to the end, too.

    Where nothing is doubled, all together.
    """
    whole = []
    for number, before in enumerate(tail):
        later = (each for each in tail[number + 1 :] if each.at >= 2 * before.at)
        after = next(later, None)
        if after is not None:
            whole.append(Span(before, after))
    last = whole[-1].before if whole else tail[0]
    return [*whole, Span(last, tail[-1])]
