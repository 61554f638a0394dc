"""Does a measurement ask what no cache can hold, and the same again wherever none can last?"""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from pytest_llmperf.measure.requests import Requests
from tests.unit.measure.test_invocation import TASK, Scripted, loaded


def prompts_of_one_measurement(server: Literal["started", "met"] | None) -> list[list[list[int]]]:
    worker = Scripted(lambda _: 1.0)
    model = loaded(worker)
    model.engine = msgspec.structs.replace(model.engine, server=server)
    requests = Requests(model, TASK, timeout_s=1)
    for _ in range(3):
        requests.send("a sample")
    return [each.prompts for each in worker.requests]


def test_a_server_that_was_met_is_never_asked_the_same_again() -> None:
    """A second look, or the next session, would be answered out of its prefix cache."""
    first, second = (prompts_of_one_measurement("met") for _ in range(2))
    asked = {tuple(prompt) for prompts in first + second for prompt in prompts}
    assert len(asked) == 6


@pytest.mark.parametrize("server", [None, "started"])
def test_what_ends_with_its_worker_is_asked_what_the_seed_says(
    server: Literal["started"] | None,
) -> None:
    by_seed = [TASK.request(position, 500).prompts for position in range(3)]
    assert prompts_of_one_measurement(server) == by_seed
