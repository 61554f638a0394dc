"""Do two measurements on one machine stay apart, whatever happens to the first?"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pytest_llmperf.hardware.lease import LeaseError, cpu_lease, default_directory, lock_path
from pytest_llmperf.hardware.lock import Lock
from tests.unit.hardware.holding import holder, says, says_nothing, tells

PATIENT_S = 60.0
DAY_S = 86400.0

PROGRAM = """
import sys
from pathlib import Path
from pytest_llmperf.hardware.lease import cpu_lease

with cpu_lease(Path(sys.argv[1]), on_wait=lambda: print("waits", flush=True)):
    print("holds", flush=True)
    sys.stdin.readline()
print("gave back", flush=True)
"""


def process(folder: Path, program: str = PROGRAM) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process that takes the lease and holds it until it reads a line."""
    return holder(program, folder)


def says_at_last(running: subprocess.Popen[str]) -> str:
    """What it says when it has waited."""
    while (told := says(running)) == "waits":
        pass
    return told


def test_second_process_waits_and_is_told_so(tmp_path: Path) -> None:
    with process(tmp_path) as first:
        assert says(first) == "holds"
        with process(tmp_path) as second:
            assert says(second) == "waits"
            first.communicate("go\n", timeout=PATIENT_S)
            assert says_at_last(second) == "holds"


GREEDY = """
import itertools, sys
from pathlib import Path
from pytest_llmperf.hardware.lease import cpu_lease

for turn in itertools.count():
    with cpu_lease(Path(sys.argv[1])):
        print(turn, flush=True)
        if turn == 0:
            sys.stdin.readline()
"""


def test_one_that_measures_without_a_pause_leaves_others_their_turn(tmp_path: Path) -> None:
    """Between two of its turns nobody would wake in time to see the lock free."""
    with process(tmp_path, GREEDY) as greedy:
        assert says(greedy) == "0"
        with process(tmp_path) as patient:
            assert says(patient) == "waits"
            tells(greedy, "go")
            assert says_at_last(patient) == "holds"
            assert says_nothing(greedy), "its second turn comes after"
            patient.communicate("go\n", timeout=PATIENT_S)
            assert says(greedy) == "1"


def test_killed_holder_frees_it(tmp_path: Path) -> None:
    with process(tmp_path) as first:
        assert says(first) == "holds"
        with process(tmp_path) as second:
            assert says(second) == "waits"
            first.kill()
            assert says_at_last(second) == "holds"


def test_nobody_waits_for_a_lease_given_back(tmp_path: Path) -> None:
    waited: list[bool] = []
    for _ in range(2):
        with cpu_lease(tmp_path / "new" / "folder", on_wait=lambda: waited.append(True)):
            pass
    assert waited == []


def test_lease_is_given_back_when_the_timed_section_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), cpu_lease(tmp_path):
        raise ZeroDivisionError
    with process(tmp_path) as other:
        assert says(other) == "holds"


def test_unusable_folder_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "leases"  # not a question of rights: root may write anywhere
    with pytest.raises(LeaseError, match="XDG_STATE_HOME") as caught, cpu_lease(folder):
        pass
    assert str(folder) in str(caught.value)


def test_errors_of_the_timed_section_are_not_taken_for_the_lock_s(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), cpu_lease(tmp_path):
        raise PermissionError


def test_file_system_without_kernel_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(LeaseError, match="flock"), cpu_lease(tmp_path):
        pass


def test_a_read_only_disk_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("pytest_llmperf.hardware.lock.os.open", refuse)
    with pytest.raises(LeaseError, match=r"Read-only file system.*XDG_STATE_HOME"):
        cpu_lease(tmp_path).__enter__()


SHARED = PROGRAM.replace("on_wait", "shared=True, on_wait")


def test_gpus_are_timed_beside_each_other_but_not_beside_the_cpu(tmp_path: Path) -> None:
    with process(tmp_path, SHARED) as first, process(tmp_path, SHARED) as second:
        assert [says(first), says(second)] == ["holds", "holds"]
        with process(tmp_path) as alone:
            assert says(alone) == "waits"
            with process(tmp_path, SHARED) as late:
                assert says(late) == "waits"  # else the CPU would never have its turn
                for each in (first, second):
                    each.communicate("go\n", timeout=PATIENT_S)
                assert says_at_last(alone) == "holds"
                alone.communicate("go\n", timeout=PATIENT_S)
                assert says_at_last(late) == "holds"


def test_default_folder_is_the_user_s_and_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert default_directory() == tmp_path / "pytest-llmperf" / "leases"
    assert not default_directory().exists()


def test_leases_do_not_care_for_the_clock(tmp_path: Path) -> None:
    """A runner whose clock was a day off wrote lock files of tomorrow, or of yesterday."""
    for off_s in (DAY_S, -DAY_S):
        with cpu_lease(tmp_path):
            pass
        for path in tmp_path.iterdir():
            os.utime(path, (time.time() + off_s, time.time() + off_s))
        lock = Lock(lock_path(tmp_path, "cpu"))
        assert lock.take()
        other = Lock(lock.path)
        assert not other.take()
        lock.leave()
