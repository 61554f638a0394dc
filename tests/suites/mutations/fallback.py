"""What is asked to fit is loaded as it stands."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.fit.room import stated_room
from tests.suites.mutation import Mutation

MUTATIONS = [
    Mutation(
        "nothing is fitted",
        "llama_cpp_takes",
        lambda wish: replace(wish, fit=False),
        failed=3,
        quick=True,
    ),
    Mutation(
        "the room is ignored",
        "llama_cpp_takes and (Q8_0 or Q4_K_M) or no_way",
        lambda wish: replace(wish, fit=stated_room(ram_gb=64)),
        failed=4,
    ),
]
