"""The arithmetic is off by a factor, or takes what is twice as large for a fit."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pytest_llmperf.fit import planning
from pytest_llmperf.fit.plan import Planned
from pytest_llmperf.fit.room import Room
from tests.suites.mutation import Mutation

_plan = planning.plan


def in_room(change: Callable[[Room], Room]) -> Callable[[pytest.MonkeyPatch], None]:
    """Every plan is for another room than asked for."""

    def spoiled(model: str, room: Room, **asked: object) -> list[Planned]:
        return _plan(model, change(room), **asked)  # type: ignore[arg-type] # passed on

    return lambda patch: patch.setattr(planning, "plan", spoiled)


def with_twice_the_gpu(room: Room) -> Room:
    """As if there were two cards."""
    return msgspec.structs.replace(room, vram=tuple(2 * each for each in room.vram))


def halved(patch: pytest.MonkeyPatch) -> None:
    """Weights weigh half."""

    def spoiled(*asked: object, **more: object) -> list[Planned]:
        rows = _plan(*asked, **more)  # type: ignore[arg-type] # passed on
        return [_lighter(each) for each in rows]

    patch.setattr(planning, "plan", spoiled)


def _lighter(row: Planned) -> Planned:
    low, high = row.weights.low // 2, row.weights.high // 2
    return msgspec.structs.replace(row, weights=type(row.weights)(low, high))


MUTATIONS = [
    Mutation(
        "memory is counted twice",
        "largest and not 13b",
        patch=in_room(with_twice_the_gpu),
        failed=6,
        quick=True,
    ),
    Mutation("weights are halved", "knows_the_size", patch=halved, failed=7, quick=True),
]
