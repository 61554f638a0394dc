"""Does looking again and again from another process see what is there long enough?"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from pytest_llmperf.worker.memory_sampler import Sampler, resident_bytes

MIB = 1 << 20
DEADLINE_S = 60.0


def wait_for_a_look(sampler: Sampler) -> None:
    before, deadline = sampler.so_far(), time.monotonic() + DEADLINE_S
    assert before is not None
    while (now := sampler.so_far()) is None or now.looks < before.looks + 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_is_held_during_a_look_and_given_back_is_seen() -> None:
    sampler = Sampler(os.getpid())
    before = sampler.so_far()
    held = b"1" * (64 * MIB)
    wait_for_a_look(sampler)
    del held
    wait_for_a_look(sampler)
    after = sampler.finish()
    assert before is not None
    assert after is not None
    assert after.most_bytes - before.most_bytes > 60 * MIB


def test_children_are_counted() -> None:
    code = "x = b'1' * (64 << 20); print(flush=True); input()"
    alone_bytes = resident_bytes(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert resident_bytes(os.getpid()) - alone_bytes > 64 * MIB
        process.communicate(b"\n")


def test_a_process_that_is_no_more_is_never_looked_at() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert resident_bytes(process.pid) == 0
    sampler = Sampler(process.pid)
    assert sampler.so_far() is None
    assert sampler.finish() is None


@pytest.mark.parametrize("ask", [True, False], ids=["finished", "forgotten"])
def test_the_looking_process_is_ended(ask: bool) -> None:
    sampler = Sampler(os.getpid())
    looker = sampler.pid
    if ask:
        sampler.finish()
    del sampler
    with pytest.raises(ProcessLookupError):
        os.kill(looker, 0)
