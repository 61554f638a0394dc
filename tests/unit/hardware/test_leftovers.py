"""Are leases, processes and files that earlier jobs left seen as what they are?"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pytest_llmperf import child
from pytest_llmperf.child import Child
from pytest_llmperf.hardware import leftovers
from pytest_llmperf.hardware.lease import lock_path
from pytest_llmperf.hardware.lock import Lock


def test_a_held_lease_is_seen_with_its_holder(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    folder.mkdir()
    lock = Lock(lock_path(folder, "gpu-gpu-a"))
    assert lock.take()
    none = tmp_path / "none"
    traces = leftovers.look(tmp_path, [("leases", folder)], none, none)
    (lease,) = traces.leases
    assert (lease.name, lease.is_taker_alive) == ("gpu-gpu-a", True)
    assert os.getpid() in lease.holders
    assert traces.gone == ("gpu-a",)
    lock.leave()
    assert leftovers.look(tmp_path, [], tmp_path / "no log").leases == ()


def test_a_lease_of_another_host_is_not_ours_to_judge(tmp_path: Path) -> None:
    """One that shares the home by network, and has another boot id."""
    folder = tmp_path / "leases"
    folder.mkdir()
    lock = Lock(folder / "gpu-gpu-a-00000000.lock")
    assert lock.take()
    assert leftovers.look(tmp_path, []).leases == ()
    lock.leave()


@contextlib.contextmanager
def started(code: str = "") -> Iterator[tuple[Child, str]]:
    """One of our processes that sleeps after what it does, and the line that it prints."""
    asleep = f"import os, time\n{code}\nprint(flush=True); time.sleep(600)"
    ours = child.start([sys.executable, "-S", "-c", asleep], stdout=subprocess.PIPE)
    try:
        assert ours.leader.stdout is not None
        yield ours, ours.leader.stdout.readline().decode()
    finally:
        ours.end()
        ours.leader.communicate()


def orphanhood(pid: int, state: Path) -> list[bool | None]:
    return [each.is_orphan for each in leftovers.look(state, []).processes if each.pid == pid]


def test_a_helper_in_a_group_of_its_own_is_judged_by_its_ancestor(tmp_path: Path) -> None:
    """As of an engine that computes in a session of its own: it has no death pipe to be seen."""
    helper = f"""
import subprocess
os.environ.pop("{child.DEATH_PIPE_VARIABLE}")
os.environ["{child.LEASES_VARIABLE}"] = ""
asleep = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL)
print(asleep.pid, end="")
"""
    with started(helper) as (_, told):
        pid = int(told)
        try:
            assert orphanhood(pid, tmp_path) == [False]
        finally:
            os.kill(pid, signal.SIGKILL)


def test_a_process_that_ends_while_we_look_is_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started() as (ours, _):

        def end(process: psutil.Process) -> bool:
            if process.pid == ours.pid:  # others may be at work on this machine
                ours.end()
            return process.pid == ours.pid

        monkeypatch.setattr(leftovers, "_is_orphan", end)
        assert orphanhood(ours.pid, tmp_path) == []


@pytest.mark.parametrize(("user", "told"), [(lambda _: 0, None), (lambda pid: pid, True)])
def test_a_parent_that_may_not_be_seen_is_a_foster_parent_or_unknown(
    user: Callable[[int], int], told: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process adopts orphans, and is of another user."""

    def deny(_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(leftovers, "_open_pipes", deny)
    with started() as (ours, _):
        monkeypatch.setattr(leftovers, "_user", user, raising=False)
        assert orphanhood(ours.pid, tmp_path) == [told]


def test_a_file_may_vanish_while_we_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "history.sqlite").touch()
    (tmp_path / "history.sqlite-journal").symlink_to(tmp_path / "gone")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    traces = leftovers.look(tmp_path, [])
    written = tmp_path / "history.sqlite"
    assert traces.last_write == (str(written), written.stat().st_mtime)
