"""Is the speed of the cores told for each, without moving the thread that asks?"""

from __future__ import annotations

import os
import sys
import time

import pytest

from pytest_llmperf.hardware import core_speed
from pytest_llmperf.hardware.core_speed import core_times_ns


def test_each_core_has_its_time() -> None:
    times = core_times_ns()
    assert len(times) == min(8, len(os.sched_getaffinity(0)))
    assert all(1 < each < 100_000 for each in times), "between 1 TB/s and 10 MB/s"


@pytest.mark.skipif(sys.platform != "linux", reason="threads choose their cores on Linux only")
def test_the_thread_may_run_where_it_could_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getaffinity(0)
    core_times_ns()
    assert os.sched_getaffinity(0) == before

    def interrupted() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(core_speed, "_time_ns", interrupted)
    with pytest.raises(KeyboardInterrupt):
        core_times_ns()
    assert os.sched_getaffinity(0) == before


def test_many_cores_are_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: tried.append(set(cores)))
    assert len(core_times_ns()) == 8
    assert tried == [*({each} for each in range(0, 64, 8)), set(range(64))]


def test_where_cores_cannot_be_chosen_none_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    assert core_times_ns() == []


def test_the_fastest_of_three_tries_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries of 3, 2 and 5 ms for 50 blocks of 16 KiB: 2 ms / 800 KiB = 2500 ns."""
    instants = iter((0, 3_000_000, 10_000_000, 12_000_000, 20_000_000, 25_000_000))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(instants))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: None)
    assert core_times_ns() == [2500.0]
