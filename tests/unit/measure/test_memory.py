"""Does every figure of memory say what it is worth, and is what nobody tells left out by name?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmperf.measure.byte_figure import (
    ByteFigure,
    slack_here_bytes,
)
from pytest_llmperf.measure.memory import (
    MemoryUse,
    MemoryWatch,
    PeakUnknown,
    Way,
    choose,
    group_peak,
)
from pytest_llmperf.worker.messages import PhaseMemory
from pytest_llmperf.worker.peaks import read_tree
from tests.unit.measure.test_byte_figure import member, tree

PID = 4711
MIB = 1 << 20
STATUS = """\
Name:\tpython
State:\tS (sleeping)
VmHWM:\t  307200 kB
VmRSS:\t  204800 kB
RssAnon:\t  102400 kB
RssFile:\t  102400 kB
RssShmem:\t       0 kB
"""
"""Constructed from proc_pid_status(5): peak 300 MiB, now 200, half of it private."""
NO_MARK = STATUS.replace("VmHWM:\t  307200 kB\n", "")


def proc(root: Path, status: str = STATUS, *, resets: bool = True, pid: int = PID) -> Path:
    """A constructed /proc with one process; the root."""
    task = root / f"proc/{pid}/task/{pid}"
    task.mkdir(parents=True)
    (task / "children").write_text("")
    (root / f"proc/{pid}/status").write_text(status)
    if resets:
        (root / f"proc/{pid}/clear_refs").write_text("")
    return root


def group_v2(root: Path, peak: str = "900\n", stat: str = "anon 500\nfile 300\n") -> Path:
    """A constructed control group; constructed from cgroup-v2.rst."""
    group = root / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("memory\n")
    (group / "memory.peak").write_text(peak)
    (group / "memory.stat").write_text(stat)
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text("0::/job\n")
    return root


@pytest.mark.parametrize(
    ("marks", "resets", "own_word", "group", "way"),
    [
        (True, True, True, True, Way.NEW_MARK),
        (True, False, True, True, Way.LIFE_MARK),
        (False, True, True, True, Way.OWN_WORD),
        (False, True, False, True, Way.GROUP),
        (False, False, False, False, Way.SAMPLES),
    ],
)
def test_the_first_way_that_the_system_allows_is_taken(
    marks: bool, resets: bool, own_word: bool, group: bool, way: Way
) -> None:
    assert choose(marks=marks, resets=resets, own_word=own_word, group=group) is way


def test_a_groups_peak_is_taken_whole_because_its_cache_was_another_then(tmp_path: Path) -> None:
    """Private memory of 900 at the peak, and files read later, must not come out as 600."""
    assert group_peak(group_v2(tmp_path)) == ByteFigure(
        bytes=900, kind="bound", how=Way.GROUP.value
    )


def test_a_groups_peak_is_read_in_the_old_hierarchy(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/memory/job"
    group.mkdir(parents=True)
    (group / "memory.max_usage_in_bytes").write_text("900\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/job\n")
    found = group_peak(tmp_path)
    assert found is not None
    assert (found.bytes, found.low_bytes) == (900, None)


def test_a_group_that_tells_no_number_has_no_peak(tmp_path: Path) -> None:
    assert group_peak(group_v2(tmp_path, "max\n")) is None


def watched(root: Path, phases: PhaseMemory | None = None) -> MemoryUse:
    """A measurement in a constructed /proc, in which nothing moves."""
    load = tree(member(100 * MIB))
    return MemoryWatch(PID, load, root=root).finish(phases)


PHASES = PhaseMemory(
    prefill=tree(member(310 * MIB)), decode=tree(member(250 * MIB)), were_reset=True
)


def test_all_figures_of_one_process_are_exact(tmp_path: Path) -> None:
    use = watched(proc(tmp_path), PHASES)
    assert use.peak == ByteFigure(
        bytes=310 * MIB,
        kind="exact",
        how="VmHWM, reset before prefill, in a request of its own",
        slack_bytes=slack_here_bytes(None),
    )
    told = (use.load, use.prefill, use.decode, use.anon, use.file)
    assert [one and one.bytes // MIB for one in told] == [100, 310, 250, 100, 100]
    assert {one and one.kind for one in told} == {"exact"}
    assert use.anon is not None
    assert use.anon.how == "RssAnon at the end of the last request, not a peak"
    assert (use.pss, use.processes, use.unknown) == (None, 1, {})


def test_a_peak_says_how_it_was_taken_itself(tmp_path: Path) -> None:
    use = MemoryWatch(PID, tree(member(400 * MIB)), root=proc(tmp_path)).finish(PHASES)
    assert (use.peak.bytes, use.peak.how) == (400 * MIB, "VmHWM up to the end of the load")


def test_the_load_is_part_of_the_peak(tmp_path: Path) -> None:
    load = tree(member(64 << 30))
    assert MemoryWatch(PID, load, root=proc(tmp_path)).finish(None).peak.bytes == 64 << 30


def test_a_mark_that_somebody_resets_is_kept_before(tmp_path: Path) -> None:
    root = proc(tmp_path)
    watch = MemoryWatch(PID, tree(member(1)), root=root)
    watch.keep()
    (root / f"proc/{PID}/status").write_text(STATUS.replace("307200", "204800"))
    assert watch.finish(None).peak.bytes == 300 * MIB


def test_earlier_requests_are_said(tmp_path: Path) -> None:
    watch = MemoryWatch(PID, tree(member(1)), earlier_requests=16, root=proc(tmp_path))
    assert watch.finish(None).peak.how == (
        "VmHWM, reset after the load; the worker had answered 16 requests before"
    )


def test_phases_nobody_asked_for_are_unknown(tmp_path: Path) -> None:
    use = watched(proc(tmp_path))
    assert (use.prefill, use.decode) == (None, None)
    assert set(use.unknown) == {"prefill", "decode"}
    assert set(use.unknown.values()) == {"no request was made to tell the phases apart"}


def test_marks_that_cannot_be_reset_count_for_the_whole_life(tmp_path: Path) -> None:
    use = watched(proc(tmp_path, resets=False), PHASES)
    assert (use.peak.bytes, use.peak.kind) == (300 * MIB, "exact")
    assert use.peak.how == (
        "VmHWM over the worker's whole life, because no new mark could be started"
    )
    assert (use.prefill, use.decode) == (None, None)
    assert "no new mark could be started" in use.unknown["decode"]


def test_phases_that_the_worker_could_not_reset_are_unknown(tmp_path: Path) -> None:
    phases = PhaseMemory(prefill=PHASES.prefill, decode=PHASES.decode, were_reset=False)
    use = watched(proc(tmp_path), phases)
    assert use.unknown["prefill"] == "the worker could not start new marks"
    assert use.peak.bytes == 300 * MIB


def test_without_a_mark_the_groups_peak_is_a_bound(tmp_path: Path) -> None:
    use = watched(group_v2(proc(tmp_path, NO_MARK), str(900 * MIB)))
    assert (use.peak.bytes, use.peak.kind) == (900 * MIB, "bound")
    assert use.peak.low_bytes == 100 * MIB  # the load's own mark was still told
    assert use.peak.how == Way.GROUP.value
    assert use.anon is not None
    assert "control group" in use.unknown["prefill"]


def test_a_mark_that_is_lost_on_the_way_is_replaced_by_the_groups_peak(tmp_path: Path) -> None:
    root = group_v2(proc(tmp_path), str(900 * MIB))
    watch = MemoryWatch(PID, tree(member(1)), root=root)
    (root / f"proc/{PID}/status").write_text(NO_MARK)
    assert watch.finish(None).peak.how == Way.GROUP.value


def test_when_nothing_tells_a_peak_the_reasons_are_named(tmp_path: Path) -> None:
    root = proc(tmp_path)
    watch = MemoryWatch(PID, tree(member(1)), root=root)
    (root / f"proc/{PID}/status").write_text(NO_MARK)
    with pytest.raises(PeakUnknown, match=rf"process {PID}: the kernel tells no VmHWM"):
        watch.finish(None)


def test_a_status_nobody_can_read_leaves_no_figure_and_no_traceback(tmp_path: Path) -> None:
    root = proc(tmp_path)
    status = root / f"proc/{PID}/status"
    watch = MemoryWatch(PID, tree(member(1)), root=root)
    status.unlink()
    status.mkdir()
    with pytest.raises(PeakUnknown, match="its status cannot be read: Is a directory"):
        watch.finish(None)


CODE = """
import sys
print(flush=True)
for line in sys.stdin:
    x = b'1' * (64 << 20)
    print(flush=True)
    sys.stdin.readline()
    del x
    print(flush=True)
"""


class Holder:
    """A real process that takes 64 MiB and gives them back in turn."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    @property
    def pid(self) -> int:
        return self.process.pid

    def turn(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "\n"


@pytest.fixture
def holder() -> Iterator[Holder]:
    holder = Holder()
    yield holder
    holder.process.communicate()


def test_memory_taken_and_given_back_between_two_looks_is_in_the_peak(holder: Holder) -> None:
    load = read_tree(holder.pid)
    watch = MemoryWatch(holder.pid, load)
    holder.turn()
    holder.turn()
    use = watch.finish(None)
    assert watch.way is Way.NEW_MARK
    assert use.load is not None
    assert use.anon is not None
    assert 63 * MIB < use.peak.bytes - load.members[0].rss_bytes < 66 * MIB
    assert use.peak.kind == "exact"
    assert use.anon.bytes < use.load.bytes < 64 * MIB


def test_a_worker_that_died_has_no_peak(holder: Holder) -> None:
    watch = MemoryWatch(holder.pid, read_tree(holder.pid))
    holder.process.communicate()
    with pytest.raises(PeakUnknown, match="it ended before it could be read"):
        watch.finish(None)


def test_where_nothing_else_works_another_process_looks_again_and_again(
    holder: Holder, tmp_path: Path
) -> None:
    holder.turn()  # the first look comes before the watch is there, so it sees this
    watch = MemoryWatch(holder.pid, tree(), root=proc(tmp_path, NO_MARK, pid=holder.pid))
    holder.turn()
    use = watch.finish(None)
    assert (use.peak.kind, use.peak.how) == ("sampled", Way.SAMPLES.value)
    assert use.peak.bytes > 64 * MIB
    assert use.load is None
    assert use.unknown["load"] == "the system does not tell"


def test_a_sampler_that_cannot_be_started_is_no_figure(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "no such program"))
    watch = MemoryWatch(holder.pid, tree(), root=proc(tmp_path, NO_MARK, pid=holder.pid))
    with pytest.raises(PeakUnknown, match="which could not be started"):
        watch.finish(None)


def test_a_sampler_that_sees_nothing_is_no_figure(tmp_path: Path, holder: Holder) -> None:
    root = proc(tmp_path, NO_MARK, pid=holder.pid)
    holder.process.communicate()
    watch = MemoryWatch(holder.pid, tree(), root=root)
    with pytest.raises(PeakUnknown, match="sampled every 10 ms"):
        watch.finish(None)


def test_this_process_and_its_children_are_a_bound(holder: Holder) -> None:
    use = MemoryWatch(os.getpid(), read_tree(os.getpid())).finish(None)
    assert use.processes >= 2
    assert (use.peak.kind, use.pss is None) == ("bound", False)
    assert use.pss is not None
    assert use.peak.low_bytes is not None
    assert use.pss.bytes <= use.peak.low_bytes < use.peak.bytes
