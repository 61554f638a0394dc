"""Does the hook before a job see what an earlier one really left, and leave it alone?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.conftest import RunPytest
from tests.faults.processes import PytestRun
from tests.faults.test_cancelled_jobs import LINGERS, TRACKING, on_a_gpu, with_hook
from tests.scripted_gpus import gpu, scripted_gpus, tell

GIB = 1 << 30


def doctor(folder: Path, environment: dict[str, str]) -> tuple[int, list[dict[str, Any]]]:
    """What ``doctor --job-started`` says on the machine of a run: exit code, findings."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_llmperf", "doctor", "--job-started", "--json"],
        env={**os.environ, **environment, "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode
    return done.returncode, told["findings"]


def about(findings: list[dict[str, Any]], pid: int) -> list[tuple[str, str]]:
    """What is told of one process; other runs may be at work on this machine."""
    return [
        (each["level"], each["about"])
        for each in findings
        if re.search(rf"process {pid}\b", each["text"])
    ]


def start(run_pytest: RunPytest, folder: Path, code: str) -> tuple[PytestRun, dict[str, str]]:
    machine = scripted_gpus(folder / "gpus", ["GPU-a"], with_hook(folder, code))
    return run_pytest(on_a_gpu("decode"), **machine, **{TRACKING: "github_before"}), machine


def test_an_orphan_and_its_lease_are_named_and_left_alone(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    run, machine = start(run_pytest, tmp_path, LINGERS)
    worker = psutil.Process(run.wait_for_phase("decode"))
    run.process.kill()
    run.process.wait()
    code, findings = doctor(run.folder, machine)
    assert code == 75
    assert about(findings, worker.pid) == [("trouble", "process")]
    texts = " ".join(each["text"] for each in findings)
    assert f"process {worker.pid} of job github_before outlived its pytest: " in texts
    assert (
        f"gpu-gpu-a was taken by process {run.process.pid}, which is gone, and is still held by "
        f"{worker.pid}"
    ) in texts
    assert worker.is_running()


def test_a_run_that_goes_on_is_no_trouble(run_pytest: RunPytest, tmp_path: Path) -> None:
    run, machine = start(run_pytest, tmp_path, "")
    worker = run.wait_for_phase("decode")
    state = Path(machine["NVML_STATE"])
    tell(state, [gpu("GPU-a", used=5 * GIB, processes=[[worker, 4 * GIB]])])
    _, findings = doctor(run.folder, machine)
    assert about(findings, worker) == [("note", "process")]
    assert about(findings, run.process.pid) == [("note", "lease")]
    assert not [each for each in findings if each["about"] == "gpu"]
    assert run.process.poll() is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"used": 5 * GIB}, "5 GiB of GPU-a (NVIDIA GeForce RTX 4060 Ti) are in use, by no"),
        ({"processes": [[4_000_000, GIB]]}, "process 4000000 (name unknown) holds 1 GiB of"),
        ({"error": 15}, "GPU is lost"),
    ],
)
def test_a_gpu_that_is_not_free_is_a_trouble(
    changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    machine = scripted_gpus(tmp_path / "gpus", ["GPU-a"], os.environ.get("PYTHONPATH", ""))
    tell(Path(machine["NVML_STATE"]), [gpu("GPU-a", **changed)])
    code, findings = doctor(tmp_path, machine)
    assert code == 75
    assert [each for each in findings if each["level"] == "trouble" and told in each["text"]]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("refuse 18", "driver and library differ in version"),
        ("crash", "NVML was killed by SIGSEGV"),
        ("none", "gives this process no GPU"),
        ("broken memory", "memory errors that could not be corrected"),
    ],
)
def test_a_driver_in_trouble_is_told(script: str, told: str, tmp_path: Path) -> None:
    machine = scripted_gpus(tmp_path / "gpus", ["GPU-a"], os.environ.get("PYTHONPATH", ""))
    code, findings = doctor(tmp_path, {**machine, "NVML_SCRIPT": script})
    assert code == 75
    assert [each for each in findings if each["about"] == "driver" and told in each["text"]]


def test_a_clean_machine_is_fit(tmp_path: Path) -> None:
    machine = scripted_gpus(tmp_path / "gpus", ["GPU-a"], os.environ.get("PYTHONPATH", ""))
    code, findings = doctor(tmp_path, machine)
    troubles = [each for each in findings if each["level"] == "trouble"]
    of_others = [each for each in troubles if each["about"] == "process"]
    assert troubles == of_others  # other tests strike runs on this machine
    assert code == (75 if of_others else 0)
