"""Is a peak what the kernel says it is, and is what the kernel does not say left out?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmperf.measure.memory import (
    MemoryWatch,
    counter_slack_bytes,
    has_children,
    peak_bytes,
    reset_peak,
)

PID = 4711
STATUS = "Name:\tpython\nVmPeak:\t  900000 kB\nVmHWM:\t  123456 kB\nVmRSS:\t  100000 kB\n"
"""Constructed from proc_pid_status(5)."""
MIB = 1 << 20


def proc(root: Path, files: dict[str, str]) -> Path:
    """A constructed /proc/4711 below ``root``."""
    for name, text in files.items():
        path = root / f"proc/{PID}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for the end of its input, with no child."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize(("cpus", "slack"), [(2, MIB // 4), (16, 2 * MIB), (128, 128 * MIB)])
def test_what_the_counters_hide_grows_with_the_cpus(cpus: int, slack: int) -> None:
    assert counter_slack_bytes(cpus, 4096) == slack


def test_the_peak_is_the_high_water_mark_in_bytes(tmp_path: Path) -> None:
    assert peak_bytes(PID, proc(tmp_path, {"status": STATUS})) == 123456 * 1024


@pytest.mark.parametrize(
    "files", [{}, {"status": "Name:\tkworker\nState:\tZ (zombie)\n"}], ids=["gone", "zombie"]
)
def test_what_the_system_does_not_tell_is_unknown(tmp_path: Path, files: dict[str, str]) -> None:
    assert peak_bytes(PID, proc(tmp_path, files)) is None


def test_a_status_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / f"proc/{PID}/status").mkdir(parents=True)
    assert peak_bytes(PID, tmp_path) is None


def test_a_reset_is_what_proc_asks_for(tmp_path: Path) -> None:
    root = proc(tmp_path, {"clear_refs": ""})
    assert reset_peak(PID, root)
    assert (root / f"proc/{PID}/clear_refs").read_text() == "5"


def test_a_refused_reset_is_said(tmp_path: Path) -> None:
    assert not reset_peak(PID, tmp_path)


@pytest.mark.parametrize(
    ("children", "expected"),
    [
        ({"task/4711/children": ""}, False),
        ({"task/4711/children": "4712 4713 "}, True),
        ({"task/4711/children": "", "task/4720/children": "4721 "}, True),
        ({}, False),
    ],
    ids=["none", "two", "of another thread", "not told"],
)
def test_children_of_every_thread_count(
    tmp_path: Path, children: dict[str, str], expected: bool
) -> None:
    assert has_children(PID, proc(tmp_path, children)) is expected


def test_a_thread_that_ended_meanwhile_is_passed_over(tmp_path: Path) -> None:
    root = proc(tmp_path, {"task/4720/children": "4721 "})
    (root / f"proc/{PID}/task/4711/children").mkdir(parents=True)
    assert has_children(PID, root)


def test_the_peak_of_a_process_without_children_is_exact(
    sleeper: subprocess.Popen[bytes],
) -> None:
    watch = MemoryWatch(sleeper.pid, None)
    peak = watch.read()
    assert peak is not None
    assert (peak.kind, peak.how) == ("exact", "VmHWM, reset after the load")
    assert peak.load_bytes == watch.load_bytes
    assert peak.peak_bytes == max(peak.load_bytes, peak.run_bytes)
    assert peak.slack_bytes == counter_slack_bytes(os.cpu_count() or 1, os.sysconf("SC_PAGESIZE"))


def test_with_children_the_peak_is_only_a_bound(sleeper: subprocess.Popen[bytes]) -> None:
    peak = MemoryWatch(os.getpid(), None).read()
    assert peak is not None
    assert peak.kind == "bound"
    assert peak.how.endswith("; of the worker alone, its children not counted")


def test_a_peak_of_the_load_that_was_read_before_is_kept(
    sleeper: subprocess.Popen[bytes],
) -> None:
    peak = MemoryWatch(sleeper.pid, 64 << 30).read()
    assert peak is not None
    assert (peak.load_bytes, peak.peak_bytes) == (64 << 30, 64 << 30)
    assert peak.run_bytes < 64 << 30


def test_memory_taken_and_given_back_after_the_reset_is_seen() -> None:
    watch = MemoryWatch(os.getpid(), 0)
    before = watch.read()
    spike = b"\1" * (64 * MIB)
    del spike
    after = watch.read()
    assert before is not None
    assert after is not None
    assert after.run_bytes - before.run_bytes > 32 * MIB


def test_a_dead_process_has_no_peak(sleeper: subprocess.Popen[bytes]) -> None:
    watch = MemoryWatch(sleeper.pid, None)
    sleeper.kill()
    sleeper.wait()
    assert watch.read() is None
