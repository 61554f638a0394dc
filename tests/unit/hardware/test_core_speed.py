"""Is the speed of the cores told for each, without moving the thread that asks?"""

from __future__ import annotations

import os
import sys
import time

import pytest

from pytest_llmperf.hardware import core_speed
from pytest_llmperf.hardware.core_speed import core_times_ns

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="threads choose their cores on Linux only"
)


@linux
def test_each_core_has_its_time() -> None:
    times = core_times_ns()
    assert len(times) == min(4, len(os.sched_getaffinity(0)))
    assert all(each > 0 for each in times)


@linux
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


@linux
def test_many_cores_are_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: tried.append(set(cores)))
    assert len(core_times_ns()) == 4
    assert tried == [{0}, {16}, {32}, {48}, set(range(64))]


@linux
def test_five_cores_give_four(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 3, 5, 8})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: tried.append(set(cores)))
    assert len(core_times_ns()) == 4
    assert tried[:4] == [{1}, {2}, {3}, {5}]


@linux
def test_a_sandbox_that_forbids_it_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: int, cores: set[int]) -> None:
        raise PermissionError(cores)

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    assert core_times_ns() == []


@linux
def test_where_cores_cannot_be_chosen_none_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    assert core_times_ns() == []


@linux
def test_the_fastest_of_three_tries_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries of 3, 2 and 5 ms for 50 blocks of 16 KiB: 2 ms / 800 KiB = 2500 ns."""
    instants = iter((0, 3_000_000, 10_000_000, 12_000_000, 20_000_000, 25_000_000))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(instants))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: None)
    assert core_times_ns() == [2500.0]
