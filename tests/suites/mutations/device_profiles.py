"""A device has all of its memory for models; what is chosen does not use what there is."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from pytest_llmperf.fit import room
from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation

_room_of = room.room_of


def nothing_is_kept_free(patch: pytest.MonkeyPatch) -> None:
    """Two gigabytes and a half more than there are."""

    def spoiled(name: str) -> room.Room:
        found = _room_of(name)
        more = None if found.ram is None else found.ram + 2 * room.GIB + room.GIB // 2
        return msgspec.structs.replace(found, ram=more)

    patch.setattr(room, "room_of", spoiled)


def on_one_core(wish: Wish) -> Wish:
    """The others stand idle."""
    return replace(wish, options={**wish.options, "n_threads": 1})


MUTATIONS = [
    Mutation(
        "nothing is kept free",
        "keeps_two",
        patch=nothing_is_kept_free,
        failed=1,
        quick=True,
    ),
    Mutation("one core alone", "chosen_here", on_one_core),
]
