"""Do names in shared memory go that nobody needs any more, and no others?"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from pytest_llmperf.child import start
from pytest_llmperf.shared_names import forget_shared_names

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the names")
SHARED = Path("/dev/shm")


def test_what_is_mapped_loses_its_name_and_lives_on() -> None:
    memory = SharedMemory(create=True, size=4096)
    try:
        assert (SHARED / memory.name).exists()
        forget_shared_names([os.getpid()])
        assert not (SHARED / memory.name).exists()
        assert memory.buf is not None
        memory.buf[0] = 7
        assert memory.buf[0] == 7
    finally:
        (SHARED / memory.name).touch()  # for Python, which unlinks it once more
        memory.close()
        memory.unlink()


def test_a_semaphore_is_known_though_it_was_mapped_under_another_name() -> None:
    lock = multiprocessing.get_context("spawn").Lock()
    name = SHARED / f"sem.{lock._semlock.name.removeprefix('/')}"  # type: ignore[attr-defined] # as Python keeps it
    assert name.exists()
    forget_shared_names([os.getpid()])
    assert not name.exists()
    with lock:
        name.touch()  # for Python, which unlinks it once more


def test_what_another_process_has_mapped_keeps_its_name() -> None:
    memory = SharedMemory(create=True, size=4096)
    try:
        forget_shared_names([os.getppid()])
        assert (SHARED / memory.name).exists()
    finally:
        memory.close()
        memory.unlink()


def test_names_and_processes_that_go_meanwhile_are_passed_over(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for gone in "ac":
        (tmp_path / f"psm_{gone}").symlink_to(tmp_path / "nowhere")  # listed, and not there
    ours = tmp_path / "psm_b"
    ours.write_bytes(b"x")
    with ours.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        forget_shared_names([ended.pid, os.getpid()], tmp_path)
    assert not ours.exists()


def test_a_group_that_is_killed_leaves_no_name_behind() -> None:
    """A helper of a helper, which ignores every signal that can be ignored."""
    code = (
        "import os, signal, sys, time\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    memory = SharedMemory(create=True, size=4096)\n"
        "    print(memory.name, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = start([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.leader.stdout is not None
    name = SHARED / child.leader.stdout.readline().decode().strip()
    assert name.exists()
    assert child.end() == -signal.SIGKILL
    child.leader.stdout.close()
    assert not name.exists()


def test_a_group_is_killed_even_if_names_cannot_be_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(_: object) -> None:
        raise PermissionError("no looking into /dev/shm")

    monkeypatch.setattr("pytest_llmperf.child.forget_shared_names", forbidden)
    child = start([sys.executable, "-c", "import time; time.sleep(60)"])
    assert child.end() == -signal.SIGKILL
