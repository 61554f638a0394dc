"""Does it matter what an engine prints, writes or leaves running?"""

from __future__ import annotations

import os
import signal

import pytest

from pytest_llmperf.worker.errors import WorkerDied, WorkerGarbled
from pytest_llmperf.worker.pool import WorkerPool
from tests.faults.processes import Family, generate, loading, prompt


@pytest.mark.parametrize("phase", ["load", "prefill", "decode"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_megabytes_of_text_block_nobody_and_end_in_the_log(
    stream: str, phase: str, pool: WorkerPool
) -> None:
    model = pool.load(loading("fake", disaster=stream, at=phase))
    assert generate(model, prompt(8), 10).count == 10
    assert model.worker.log.stat().st_size > 3_900_000


def test_the_last_words_are_the_last_twenty_lines(pool: WorkerPool) -> None:
    model = pool.load(loading("fake", disaster="stderr"))
    generate(model, prompt(8), 10)
    with model.worker.log.open("a") as log:
        log.writelines(f"line {number}\n" for number in range(100))
    os.kill(model.worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied) as caught:
        generate(model, prompt(8), 10)
    told = str(caught.value).partition("last words (20 lines of stderr):\n")[2]
    assert told.splitlines() == [f"  line {number}" for number in range(80, 100)]


@pytest.mark.parametrize("phase", ["load", "prefill", "decode"])
def test_garbage_on_the_channel_is_an_error_and_ends_the_worker(
    phase: str, pool: WorkerPool, family: Family
) -> None:
    with pytest.raises(WorkerGarbled, match="wrote garbage to its channel") as caught:
        generate(pool.load(loading("fake", disaster="channel", at=phase)), prompt(8), 10)
    assert f"during {phase}" in str(caught.value)
    assert family.alive() == []


def test_a_helper_that_ignores_sigterm_is_gone_when_its_worker_is_closed(
    pool: WorkerPool, family: Family
) -> None:
    pool.load(loading("fake", disaster="grandchild", at="load"))
    family.wait_for(2)
    pool.close()
    assert pool.bad_exits == []
    assert family.survivors() == []


def test_a_helper_that_ignores_sigterm_is_gone_when_its_worker_is_killed(
    pool: WorkerPool, family: Family
) -> None:
    model = pool.load(loading("fake", disaster="grandchild", at="load"))
    family.wait_for(2)
    model.worker.kill()
    assert family.survivors() == []


def test_a_helper_that_ignores_sigterm_is_gone_when_its_worker_died(
    pool: WorkerPool, family: Family
) -> None:
    model = pool.load(loading("fake", disaster="grandchild", at="load"))
    os.kill(model.worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        generate(model, prompt(8), 10)
    assert family.survivors() == []
