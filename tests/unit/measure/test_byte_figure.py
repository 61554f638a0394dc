"""Is a figure worth what it says: exact of one process, a bound of several, nothing of half?"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from pytest_llmperf.measure.byte_figure import (
    ByteFigure,
    Kind,
    combine,
    counter_slack_bytes,
    figure_of,
    held_now,
    slack_here_bytes,
)
from pytest_llmperf.worker.peaks import ProcessMemory, TreeMemory, Trouble

PID = 4711
MIB = 1 << 20


def member(peak: int | None, pss: int | None = None) -> ProcessMemory:
    """A process of some bytes."""
    return ProcessMemory(
        pid=PID,
        peak_bytes=peak,
        rss_bytes=10,
        anon_bytes=6,
        file_bytes=4,
        shmem_bytes=0,
        pss_bytes=pss,
    )


def tree(*members: ProcessMemory, troubles: Sequence[Trouble] = ()) -> TreeMemory:
    return TreeMemory(members=list(members), troubles=list(troubles))


def figure(most: int, kind: Kind = "exact", low: int | None = None) -> ByteFigure:
    return ByteFigure(bytes=most, kind=kind, how="", low_bytes=low)


@pytest.mark.parametrize(("cpus", "slack"), [(2, MIB // 4), (16, 2 * MIB), (128, 128 * MIB)])
def test_what_the_counters_hide_grows_with_the_cpus(cpus: int, slack: int) -> None:
    assert counter_slack_bytes(cpus, 4096) == slack


def test_the_peak_of_one_process_is_exact() -> None:
    assert figure_of(tree(member(70)), "mark", 3) == ByteFigure(
        bytes=70, kind="exact", how="mark", slack_bytes=3
    )


def test_a_tree_lies_between_its_largest_peak_and_the_sum() -> None:
    assert figure_of(tree(member(70), member(50), member(20)), "mark", 3) == ByteFigure(
        bytes=140, kind="bound", how="mark; 3 processes", low_bytes=70, slack_bytes=9
    )


def test_what_a_tree_holds_at_the_look_was_held_at_once() -> None:
    found = figure_of(tree(member(70, pss=60), member(50, pss=40)), "mark", None)
    assert found is not None
    assert (found.low_bytes, found.bytes) == (100, 120)


def test_a_process_that_ended_unread_was_missed_and_is_said() -> None:
    gone = Trouble(pid=9, what="ended", why="it ended")
    assert figure_of(tree(member(70), troubles=[gone]), "mark", 3) == ByteFigure(
        bytes=70,
        kind="sampled",
        how="mark; 1 of its processes ended unread",
        low_bytes=70,
        slack_bytes=3,
    )


@pytest.mark.parametrize(
    "found",
    [
        tree(),
        tree(member(None)),
        tree(member(70), member(None)),
        tree(member(70), troubles=[Trouble(pid=9, what="process", why="refused")]),
    ],
    ids=["nobody", "no mark", "a member without a mark", "a member that cannot be read"],
)
def test_no_figure_is_made_of_what_is_known_in_part(found: TreeMemory) -> None:
    assert figure_of(found, "mark", 3) is None


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([figure(5), figure(7)], figure(7)),
        ([figure(5), figure(9, "bound", 7)], figure(9, "bound", 7)),
        ([figure(8), figure(9, "bound", 7)], figure(9, "bound", 8)),
        ([figure(8), figure(6, "bound", 3)], figure(8)),
        ([figure(9, "bound", 7), figure(8, "bound", 4)], figure(9, "bound", 7)),
        ([figure(9, "bound"), figure(8, "bound")], figure(9, "bound")),
        ([figure(8), figure(6, "sampled")], figure(8, "sampled", 8)),
        ([figure(5, "bound", 2), figure(6, "sampled")], figure(6, "sampled", 2)),
    ],
)
def test_the_peak_over_several_stretches(figures: list[ByteFigure], expected: ByteFigure) -> None:
    assert combine(figures, "") == expected
    assert combine(figures[::-1], "") == expected


def test_the_peak_over_no_stretch_is_not_zero() -> None:
    assert combine([], "") is None


def test_slack_is_that_of_the_figures_that_decide() -> None:
    one = ByteFigure(bytes=8, kind="exact", how="", slack_bytes=1)
    two = ByteFigure(bytes=6, kind="bound", how="", low_bytes=3, slack_bytes=2)
    combined = combine([one, two], "")
    assert combined is not None
    assert combined.slack_bytes == 1


@pytest.mark.parametrize(
    ("resident", "shares", "expected"),
    [
        ([40], [None], ByteFigure(bytes=40, kind="exact", how="now", slack_bytes=1)),
        ([40, 30], [20, 10], figure(70, "bound", 30)),
        ([40, 30], [20, None], figure(70, "bound", 40)),
        ([40, 30], [41, 31], figure(70, "bound", 70)),
        ([40, None], [20, 10], None),
        ([], [], None),
    ],
)
def test_what_is_held_now_counts_shared_pages_between_once_and_always(
    resident: list[int | None], shares: list[int | None], expected: ByteFigure | None
) -> None:
    found = held_now(resident, shares, "now", 1)
    if expected is None or found is None:
        assert found is expected
    else:
        assert (found.bytes, found.kind, found.low_bytes) == (
            expected.bytes,
            expected.kind,
            expected.low_bytes,
        )
        assert found.slack_bytes == len(resident)


PAGE = os.sysconf("SC_PAGESIZE")
PER_CPU = counter_slack_bytes(os.sysconf("SC_NPROCESSORS_ONLN"), PAGE)


@pytest.mark.parametrize(
    ("release", "threads", "slack"),
    [
        ("6.2.0-generic", None, PER_CPU),
        ("6.18.44", 64, PER_CPU),
        ("5.15.0-91-generic", 64, 64 * 64 * PAGE),
        ("5.15.0-91-generic", None, None),
        ("odd", 64, None),
    ],
)
def test_older_kernels_keep_pages_per_thread(
    release: str, threads: int | None, slack: int | None
) -> None:
    assert slack_here_bytes(threads, release) == slack
