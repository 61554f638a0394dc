"""Is a runner told fit only when it is, and does every trouble say what it is?"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf import cli
from pytest_llmperf.cli.job_started import Finding, judge
from pytest_llmperf.hardware import leftovers
from pytest_llmperf.hardware.gpu_watch import GpuProcess, GpuReading
from pytest_llmperf.hardware.lease import cpu_lease, lock_path
from pytest_llmperf.hardware.leftovers import Disk, HeldLease, OurProcess, Traces
from pytest_llmperf.hardware.lock import Lock, Taking, pid_namespace
from pytest_llmperf.identity import Identity

GIB = 1 << 30
DAY_S = 86400.0
HERE = Identity(pid=7, start_ticks=1, boot_id="boot")
TAKING = Taking(process=HERE, at=1_000_000.0, uptime_s=5000.0)
CLEAN = Traces(
    now=TAKING.at + 60,
    uptime_s=5060.0,
    boot_id="boot",
    takings={"cpu.lock": TAKING},
    last_write=("cpu.lock", TAKING.at),
)
ORPHAN = OurProcess(pid=40, group=40, command="python -m worker", is_orphan=True, job="github_1")
AT_WORK = msgspec.structs.replace(ORPHAN, pid=50, group=50, is_orphan=False)
HELPER = msgspec.structs.replace(AT_WORK, pid=51)
CARD = GpuReading(uuid="GPU-a", pci="0", name="RTX", integrated=False, used_bytes=GIB // 4)
LEASE = HeldLease(name="gpu-gpu-a", taking=TAKING, is_taker_alive=False, holders=(40, 41))
DISK = Disk(use="models", folder="/cache", free_bytes=9 * GIB, is_writable=True)

UNSEEN = (
    "gpu-gpu-a was taken by process 7, which is gone, and is still held by nobody that this user "
    "may see"
)
BEHIND = (
    "the clock is 24.0 h behind our newest file, written 1970-01-12 13:46 UTC: set it right, or, "
    "if it is, touch cpu.lock"
)
STEPPED = (
    "the clock was set 24.0 h {} since the last measurement of this boot: set it right, or, if it "
    "is, empty cpu.lock"
)


def found(**changed: object) -> list[tuple[str, str, str]]:
    """Level, subject and text of each finding."""
    traces = msgspec.structs.replace(CLEAN, **changed)
    return [(each.level, each.about, each.text) for each in judge(traces)]


def test_a_clean_runner_has_nothing_to_tell() -> None:
    assert found(gpus=(CARD,), disks=(DISK,)) == []


@pytest.mark.parametrize("processes", [(), (AT_WORK,)])
def test_a_runner_with_nothing_but_notes_is_fit(
    processes: tuple[OurProcess, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traces = msgspec.structs.replace(CLEAN, processes=processes)
    monkeypatch.setattr("pytest_llmperf.cli.job_started.look", lambda *_: traces)
    assert cli.main(["doctor", "--job-started"]) == 0
    assert capsys.readouterr().out.endswith("this runner is fit for measuring\n")
    assert cli.main(["doctor", "--job-started", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit_code"] == 0


@pytest.mark.parametrize(
    ("traces", "about", "told"),
    [
        (
            {"processes": (ORPHAN,)},
            "process",
            "process 40 of job github_1 outlived its pytest: python -m worker",
        ),
        (
            {"leases": (LEASE,)},
            "lease",
            "gpu-gpu-a was taken by process 7, which is gone, and is still held by 40, 41",
        ),
        (
            {"leases": (msgspec.structs.replace(LEASE, holders=()),)},
            "lease",
            UNSEEN,
        ),
        (
            {
                "gpus": (
                    msgspec.structs.replace(
                        CARD, processes=(GpuProcess(pid=9, used_bytes=3 * GIB, name="miner"),)
                    ),
                )
            },
            "gpu",
            "process 9 (miner) holds 3 GiB of GPU-a (RTX)",
        ),
        (
            {"gpus": (msgspec.structs.replace(CARD, used_bytes=3 * GIB, processes=()),)},
            "gpu",
            "3 GiB of GPU-a (RTX) are in use, by no process that the driver names",
        ),
        (
            {"gpus": (msgspec.structs.replace(CARD, trouble="GPU is lost"),)},
            "driver",
            "GPU-a (RTX): GPU is lost",
        ),
        ({"driver": ("NVML did not answer",)}, "driver", "NVML did not answer"),
        (
            {"gone": ("gpu-b",)},
            "driver",
            "gpu-b was measured on since the last boot and is not there now: read 'dmesg'",
        ),
        (
            {"xids": (("PCI:0000:01:00", 31), ("PCI:0000:01:00", 79))},
            "driver",
            "Xid 79 of PCI:0000:01:00 since the last boot: the card has fallen off the bus; reboot",
        ),
        (
            {"disks": (msgspec.structs.replace(DISK, free_bytes=GIB // 2),)},
            "disk",
            "/cache, for models, has 512 MiB free: 'pytest-llmperf cache prune' makes room",
        ),
        (
            {"disks": (msgspec.structs.replace(DISK, is_writable=False),)},
            "disk",
            "/cache, for models, cannot be written: make it writable for this user",
        ),
        (
            {"now": CLEAN.now + DAY_S},
            "clock",
            STEPPED.format("forward"),
        ),
        (
            {"now": CLEAN.now - DAY_S, "last_write": None},
            "clock",
            STEPPED.format("back"),
        ),
        (
            {"now": TAKING.at - DAY_S, "boot_id": "another"},
            "clock",
            BEHIND,
        ),
    ],
)
def test_what_makes_a_job_better_tried_elsewhere(
    traces: dict[str, object], about: str, told: str
) -> None:
    assert found(**traces) == [("trouble", about, told)]


@pytest.mark.parametrize(
    ("traces", "about"),
    [
        ({"processes": (AT_WORK, HELPER)}, "process"),
        ({"processes": (msgspec.structs.replace(ORPHAN, is_orphan=None),)}, "process"),
        ({"leases": (msgspec.structs.replace(LEASE, is_taker_alive=True),)}, "lease"),
        ({"leases": (msgspec.structs.replace(LEASE, is_taker_alive=None),)}, "lease"),
        ({"leases": (msgspec.structs.replace(LEASE, name="cpu"),)}, "lease"),
        ({"hidden": ("gpu-b",)}, "driver"),
        ({"folders": ("/tmp/pytest-llmperf-x",)}, "folder"),
        ({"unseen": ("Xid errors: the kernel's log cannot be read",)}, "driver"),
    ],
)
def test_what_does_not(traces: dict[str, object], about: str) -> None:
    """Another runner of this machine may be at work: a job waits for its turn."""
    (only,) = found(**traces)
    assert only[:2] == ("note", about)


@pytest.mark.parametrize(
    ("changed", "user"),
    [
        ({"is_taker_alive": True}, "process 7, which is running"),
        ({"is_taker_alive": False}, "somebody who shares it"),
        (
            {"is_taker_alive": None},
            "process 7, of whom cannot be told here whether it runs (another container?)",
        ),
    ],
)
def test_a_lease_in_use_names_only_a_user_that_is_known(
    changed: dict[str, object], user: str
) -> None:
    """Who shares it leaves no note: the one in its file is of who had it alone before."""
    lease = msgspec.structs.replace(LEASE, name="cpu", **changed)
    (told,) = found(leases=(lease,))
    assert told[2] == f"cpu is in use by {user}: a job would wait for it"


def test_a_run_that_goes_on_may_hold_memory_of_a_gpu() -> None:
    card = msgspec.structs.replace(
        CARD, used_bytes=9 * GIB, processes=(GpuProcess(pid=51, used_bytes=9 * GIB),)
    )
    told = found(gpus=(card,), processes=(AT_WORK, HELPER))
    assert [each[:2] for each in told] == [("note", "process")]


def test_a_stranger_on_a_leased_gpu_may_be_its_worker_under_another_number() -> None:
    card = msgspec.structs.replace(CARD, processes=(GpuProcess(pid=99, used_bytes=GIB),))
    lease = msgspec.structs.replace(LEASE, is_taker_alive=True)
    told = found(gpus=(card,), leases=(lease,))
    assert [each[:2] for each in told] == [("note", "lease"), ("note", "gpu")]


def test_memory_of_a_leased_gpu_may_be_its_workers_whom_a_container_does_not_see() -> None:
    card = msgspec.structs.replace(CARD, used_bytes=9 * GIB, processes=())
    lease = msgspec.structs.replace(LEASE, is_taker_alive=True)
    told = found(gpus=(card,), leases=(lease,))
    assert [each[:2] for each in told] == [("note", "lease"), ("note", "gpu")]


def test_time_between_two_jobs_is_no_step_of_the_clock() -> None:
    assert found(now=CLEAN.now + DAY_S, uptime_s=5060.0 + DAY_S) == []


def test_the_clock_is_judged_by_the_last_measurement() -> None:
    """One before it was set right would be a trouble for as long as the machine runs."""
    wrong_then = msgspec.structs.replace(TAKING, at=TAKING.at + DAY_S, uptime_s=4000.0)
    takings = {"gpu.lock": wrong_then, "cpu.lock": TAKING}
    assert found(takings=takings) == []
    older = {"gpu.lock": msgspec.structs.replace(wrong_then, uptime_s=5001.0), "cpu.lock": TAKING}
    assert [each[1] for each in found(takings=older)] == ["clock"]


@pytest.mark.parametrize("namespace", ["pid:[1]", None])
def test_a_taker_in_another_container_cannot_be_judged(
    namespace: str | None, tmp_path: Path
) -> None:
    """Its number is of another process here, or of none."""
    folder = tmp_path / "leases"
    folder.mkdir()
    lock = Lock(lock_path(folder, "gpu-gpu-a"))
    assert lock.take()
    gone = msgspec.structs.replace(TAKING, pid_namespace=namespace)
    lock.path.write_bytes(msgspec.json.encode(gone))
    traces = leftovers.look(tmp_path, [])
    assert [each.is_taker_alive for each in traces.leases] == [None]
    assert {each.level for each in judge(traces) if each.about == "lease"} == {"note"}
    here = msgspec.structs.replace(TAKING, pid_namespace=pid_namespace())
    lock.path.write_bytes(msgspec.json.encode(here))
    assert [each.is_taker_alive for each in leftovers.look(tmp_path, []).leases] == [False]
    lock.leave()


def test_the_clock_of_a_lease_taken_now_is_right(tmp_path: Path) -> None:
    with cpu_lease(tmp_path / "leases"):
        pass
    traces = leftovers.look(tmp_path, [])
    assert len(traces.takings) == 1
    assert not [each for each in judge(traces) if each.about == "clock"]
    stepped = msgspec.structs.replace(traces, now=traces.now + DAY_S)
    assert [each.about for each in judge(stepped) if each.level == "trouble"] == ["clock"]


def test_a_lease_folder_that_cannot_be_made_is_a_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    traces = leftovers.look(tmp_path, [("leases", tmp_path / "file" / "leases")])
    assert [each.about for each in judge(traces) if each.about == "disk"] == ["disk"]


def test_a_folder_that_may_not_be_looked_at_is_a_trouble(tmp_path: Path) -> None:
    """A name that is too long answers the superuser, too, as an unsearchable folder others."""
    traces = leftovers.look(tmp_path, [("leases", tmp_path / ("a" * 300) / "leases")])
    (told,) = [each for each in judge(traces) if each.about == "disk"]
    assert (told.level, "cannot be written" in told.text) == ("trouble", True)


def test_no_room_for_a_temporary_file_is_told_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pytest_llmperf.hardware.leftovers.tempfile.gettempdir", full)
    monkeypatch.setattr("pytest_llmperf.hardware.leftovers.nvidia.look", full)
    (told,) = [each for each in judge(leftovers.look(tmp_path, [])) if each.about == "driver"]
    assert (told.level, os.strerror(errno.ENOSPC) in told.text) == ("trouble", True)


def test_a_read_only_disk_is_a_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.hardware.leftovers.os.access", lambda *_: False)
    traces = leftovers.look(tmp_path, [("leases", tmp_path)])
    (told,) = [each for each in judge(traces) if each.about == "disk"]
    assert told.text == f"{tmp_path}, for leases, cannot be written: make it writable for this user"


def test_json_is_the_same_finding_by_finding(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("LLMPERF_CACHE", str(tmp_path))
    assert cli.main(["doctor", "--job-started", "--json"]) == 75
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 75
    findings = msgspec.convert(told["findings"], list[Finding])
    assert "disk" in {each.about for each in findings if each.level == "trouble"}
    assert cli.main(["doctor", "--job-started"]) == 75
    text = capsys.readouterr().out
    assert "trouble: " in text
    assert text.endswith("try the job elsewhere; nothing was ended or removed\n")


def test_it_looks_at_no_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--job-started", "fake"]) == 2
    assert "name no backend" in capsys.readouterr().err
