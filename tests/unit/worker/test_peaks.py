"""Is a look at a process tree what the kernel says, with a name for what it does not say?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from pytest_llmperf.worker.peaks import ProcessMemory, TreeMemory, members, read_tree, reset_peaks

PID, CHILD, GRANDCHILD = 4711, 4712, 4713
KIB, MIB = 1 << 10, 1 << 20
# Constructed from proc_pid_status(5) and proc_pid_smaps(5).
STATUS = """\
Name:\tpython
State:\tS (sleeping)
VmPeak:\t  900000 kB
VmHWM:\t  123456 kB
VmRSS:\t  100000 kB
RssAnon:\t   60000 kB
RssFile:\t   39000 kB
RssShmem:\t    1000 kB
Threads:\t3
"""
ZOMBIE = "Name:\tpython\nState:\tZ (zombie)\nThreads:\t1\n"
ROLLUP = """\
5640000000-7ffc000000 ---p 00000000 00:00 0                          [rollup]
Rss:              100000 kB
Pss:               80000 kB
Pss_Dirty:         60000 kB
Pss_Anon:          60000 kB
Pss_File:          19500 kB
Pss_Shmem:           500 kB
"""


def add_process(root: Path, pid: int, children: str = "", **files: str) -> Path:
    """A constructed /proc/PID below ``root``; its folder."""
    folder = root / f"proc/{pid}"
    (folder / f"task/{pid}").mkdir(parents=True)
    (folder / f"task/{pid}/children").write_text(children)
    for name, text in ({"status": STATUS, "clear_refs": ""} | files).items():
        (folder / name).write_text(text)
    return folder


def troubles(tree: TreeMemory) -> list[tuple[int, str]]:
    return [(trouble.pid, trouble.what) for trouble in tree.troubles]


def test_one_process_is_read_in_bytes(tmp_path: Path) -> None:
    add_process(tmp_path, PID, smaps_rollup=ROLLUP)
    alone = ProcessMemory(
        pid=PID,
        peak_bytes=123456 * KIB,
        rss_bytes=100000 * KIB,
        anon_bytes=60000 * KIB,
        file_bytes=39000 * KIB,
        shmem_bytes=1000 * KIB,
    )
    assert read_tree(PID, with_pss=True, root=tmp_path) == TreeMemory(members=[alone], troubles=[])


def test_a_tree_is_read_down_to_its_grandchildren_with_shares(tmp_path: Path) -> None:
    add_process(tmp_path, PID, f"{CHILD} ", smaps_rollup=ROLLUP)
    add_process(tmp_path, CHILD, f"{GRANDCHILD} ", smaps_rollup=ROLLUP)
    add_process(tmp_path, GRANDCHILD, smaps_rollup=ROLLUP)
    tree = read_tree(PID, with_pss=True, root=tmp_path)
    assert [member.pid for member in tree.members] == [PID, CHILD, GRANDCHILD]
    assert {member.pss_bytes for member in tree.members} == {80000 * KIB}
    assert {member.pss_anon_bytes for member in tree.members} == {60000 * KIB}
    assert {member.pss_file_bytes for member in tree.members} == {19500 * KIB}
    assert tree.troubles == []


def test_shares_are_not_read_unless_asked_for(tmp_path: Path) -> None:
    add_process(tmp_path, PID, f"{CHILD} ")
    add_process(tmp_path, CHILD)
    tree = read_tree(PID, root=tmp_path)
    assert (len(tree.members), tree.troubles) == (2, [])


def test_children_of_every_thread_are_members(tmp_path: Path) -> None:
    folder = add_process(tmp_path, PID)
    (folder / "task/4720").mkdir()
    (folder / "task/4720/children").write_text(f"{CHILD} {GRANDCHILD} ")
    (folder / "task/4721/children").mkdir(parents=True)  # a thread that cannot be read any more
    assert members(PID, tmp_path) == [PID, CHILD, GRANDCHILD]


def test_where_no_children_are_listed_every_process_is_asked_for_its_parent(
    tmp_path: Path,
) -> None:
    for pid, parent in ((PID, 1), (CHILD, PID), (GRANDCHILD, CHILD), (5000, 1)):
        folder = tmp_path / f"proc/{pid}"
        folder.mkdir(parents=True)
        (folder / "stat").write_text(f"{pid} (a) odd (name) S {parent} {parent} 0\n")
    (tmp_path / "proc/5001/stat").mkdir(parents=True)
    assert members(PID, tmp_path) == [PID, CHILD, GRANDCHILD]


@pytest.mark.parametrize("status", [None, ZOMBIE], ids=["vanished", "zombie"])
def test_a_member_that_ended_is_named_and_not_counted(tmp_path: Path, status: str | None) -> None:
    add_process(tmp_path, PID, f"{CHILD} ")
    if status is not None:
        add_process(tmp_path, CHILD, status=status)
    tree = read_tree(PID, root=tmp_path)
    assert [member.pid for member in tree.members] == [PID]
    assert troubles(tree) == [(CHILD, "ended")]
    assert tree.why("ended") == f"process {CHILD}: it ended before it could be read"


def test_a_status_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = add_process(tmp_path, PID)
    (folder / "status").unlink()
    (folder / "status").mkdir()
    tree = read_tree(PID, root=tmp_path)
    assert (tree.members, troubles(tree)) == ([], [(PID, "process")])
    assert tree.why("process") == f"process {PID}: its status cannot be read: Is a directory"


def test_a_process_that_vanished_is_no_error(tmp_path: Path) -> None:
    tree = read_tree(PID, with_pss=True, root=tmp_path)
    assert (tree.members, troubles(tree)) == ([], [(PID, "ended")])
    assert reset_peaks([PID], tmp_path)


@pytest.mark.parametrize(
    ("line", "garbage", "what", "field"),
    [
        ("VmHWM:\t  123456 kB\n", "", "peak", "peak_bytes"),
        ("VmHWM:\t  123456 kB\n", "VmHWM:\tlots kB\n", "peak", "peak_bytes"),
        ("RssFile:\t   39000 kB\n", "", "parts", "file_bytes"),
    ],
)
def test_a_figure_that_the_kernel_does_not_tell_is_named_and_never_zero(
    tmp_path: Path, line: str, garbage: str, what: str, field: str
) -> None:
    add_process(tmp_path, PID, status=STATUS.replace(line, garbage))
    tree = read_tree(PID, root=tmp_path)
    assert getattr(tree.members[0], field) is None
    assert tree.members[0].rss_bytes == 100000 * KIB
    assert troubles(tree) == [(PID, what)]


def test_a_process_of_which_no_memory_is_told_is_named(tmp_path: Path) -> None:
    add_process(tmp_path, PID, status="Name:\tpython\nState:\tS (sleeping)\n")
    tree = read_tree(PID, root=tmp_path)
    assert (tree.members, troubles(tree)) == ([], [(PID, "process")])


def test_shares_that_are_refused_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    add_process(tmp_path, PID, f"{CHILD} ", smaps_rollup=ROLLUP)
    add_process(tmp_path, CHILD)
    tree = read_tree(PID, with_pss=True, root=tmp_path)
    assert [member.pss_bytes for member in tree.members] == [80000 * KIB, None]
    assert [member.peak_bytes for member in tree.members] == [123456 * KIB] * 2
    assert troubles(tree) == [(CHILD, "pss")]


def test_an_older_kernel_tells_shares_without_their_parts(tmp_path: Path) -> None:
    older = "\n".join(line for line in ROLLUP.splitlines() if not line.startswith("Pss_"))
    add_process(tmp_path, PID, f"{CHILD} ", smaps_rollup=older)
    add_process(tmp_path, CHILD, smaps_rollup=older)
    tree = read_tree(PID, with_pss=True, root=tmp_path)
    assert {member.pss_bytes for member in tree.members} == {80000 * KIB}
    assert {member.pss_anon_bytes for member in tree.members} == {None}
    assert tree.why("pss", "ended") is not None


def test_a_reset_is_what_proc_asks_for_in_every_member(tmp_path: Path) -> None:
    folders = [add_process(tmp_path, pid) for pid in (PID, CHILD)]
    assert reset_peaks([PID, CHILD], tmp_path)
    assert [(folder / "clear_refs").read_text() for folder in folders] == ["5", "5"]


def test_one_refusal_spoils_the_reset_but_the_others_are_tried(tmp_path: Path) -> None:
    (add_process(tmp_path, PID) / "clear_refs").unlink()
    other = add_process(tmp_path, CHILD)
    assert not reset_peaks([PID, CHILD], tmp_path)
    assert (other / "clear_refs").read_text() == "5"
    assert not (tmp_path / f"proc/{PID}/clear_refs").exists()


def test_a_look_travels_in_a_message(tmp_path: Path) -> None:
    add_process(tmp_path, PID, f"{CHILD} ")
    tree = read_tree(PID, root=tmp_path)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tree), type=TreeMemory) == tree


SPIKE = "x = b'1' * (64 << 20); del x"
FAMILY = f"""
import subprocess, sys
one = "import sys; print(flush=True); sys.stdin.readline(); {SPIKE}; print(flush=True); input()"
children = [
    subprocess.Popen([sys.executable, "-c", one], stdin=-1, stdout=-1, text=True) for _ in range(2)
]
for child in children:
    child.stdout.readline()
print(flush=True)
sys.stdin.readline()
for child in children:
    child.stdin.write("\\n"); child.stdin.flush(); child.stdout.readline()
print(flush=True)
sys.stdin.readline()
for child in children:
    child.communicate("\\n")
"""
ALONE = f"import sys; print(flush=True); sys.stdin.readline(); {SPIKE}; print(flush=True)"
ALONE += "; sys.stdin.readline()"


class Program:
    """A real process that acts on a line of its input, answers with a line, and waits."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def act(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "\n"


@pytest.fixture(params=[ALONE, FAMILY], ids=["alone", "two children"])
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    program = Program(request.param)
    yield program
    program.process.communicate()


def test_every_member_that_took_memory_and_gave_it_back_after_the_reset_shows_it(
    program: Program,
) -> None:
    pids = members(program.process.pid)
    assert reset_peaks(pids)
    before = {member.pid: member for member in read_tree(program.process.pid).members}
    program.act()
    after = read_tree(program.process.pid)
    assert [member.pid for member in after.members] == pids
    assert after.troubles == []
    leaves = [member for member in after.members if len(pids) == 1 or member.pid != pids[0]]
    for member in leaves:
        peak_before, peak_after = before[member.pid].peak_bytes, member.peak_bytes
        assert peak_before is not None
        assert peak_after is not None
        assert 63 * MIB < peak_after - peak_before < 66 * MIB
        assert member.rss_bytes < peak_after - 60 * MIB


@pytest.mark.parametrize("program", [FAMILY], indirect=True)
def test_shares_of_real_children_add_up_to_less_than_their_memory(program: Program) -> None:
    tree = read_tree(program.process.pid, with_pss=True)
    shares = [member.pss_bytes or 0 for member in tree.members]
    assert len(shares) == 3
    assert 0 < sum(shares) < sum(member.rss_bytes for member in tree.members)
    program.act()


def test_another_systems_way_tells_what_it_can_of_this_process_and_names_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before_bytes = psutil.Process().memory_info().rss
    monkeypatch.setattr(sys, "platform", "freebsd")
    tree = read_tree(os.getpid())
    assert tree.members[0].rss_bytes == pytest.approx(before_bytes, abs=MIB)
    assert tree.members[0].peak_bytes is None
    assert troubles(tree)[:2] == [(os.getpid(), "peak"), (os.getpid(), "parts")]
    assert not reset_peaks([os.getpid()])
