"""Scaling is silently ignored; a window that slides over everything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.suites.mutation import Mutation, without

ROPE = ("rope_scaling_type", "rope_freq_scale", "rope_freq_base", "yarn_orig_ctx")


def no_window(patch: pytest.MonkeyPatch) -> None:
    """The configuration's window is lost on the way."""
    dumps = json.dumps

    def lose(value: object, **how: Any) -> str:
        if isinstance(value, dict) and "sliding_window" in value:
            value = {**value, "sliding_window": value["max_position_embeddings"]}
        return dumps(value, **how)

    patch.setattr(json, "dumps", lose)


MUTATIONS = [
    Mutation("scaling is ignored", "reads_on or linear", without(*ROPE), failed=3),
    Mutation("no window", "sliding", patch=no_window),
]
