"""Pages are silently off; the cache in one piece is larger than was asked for."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation, without


def room_for_all(wish: Wish) -> Wish:
    """As much for each sequence as the longest needs, where paging would spare nothing."""
    options = wish.options
    more = {"n_ctx": 12 * 1024} if "n_seq_max" in options else {}
    return replace(wish, options={**options, **more})


MUTATIONS = [
    Mutation("no pages", "it_is_both", without("batching", "page_size", "num_blocks")),
    Mutation("room for all", "one_piece", room_for_all, quick=True),
]
