"""The file is never mapped, or always; or a busy disk is not told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation, without


def never_mapped(wish: Wish) -> Wish:
    """What llama.cpp does on a file system that cannot map."""
    return replace(wish, options={**wish.options, "use_mmap": False})


def no_cold_files(patch: pytest.MonkeyPatch) -> None:
    """Every load is called cold, and none has read from the disk."""
    import msgspec

    from pytest_llmperf.worker.loading import load_facts

    patch.setattr(
        "pytest_llmperf.worker.pool.load_facts",
        lambda *given: msgspec.structs.replace(
            load_facts(*given), cached_share=0.0, disk_share=0.0
        ),
    )


MUTATIONS = [
    Mutation("never mapped", "private or share_the_pages", never_mapped, failed=2, quick=True),
    Mutation("always mapped", "private", without("use_mmap")),
    Mutation("every load looks cold", "cold_load", patch=no_cold_files),
    Mutation("nothing is locked", "locked", without("use_mlock"), quick=True),
]
