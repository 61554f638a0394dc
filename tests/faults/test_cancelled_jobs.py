"""What does a CI job that is cancelled leave behind, when the runner ends its step as it does?

GitHub's runner sends SIGINT to the step's shell alone, SIGTERM after 7.5 s, and SIGKILL 2.5 s
later. When the job is over it kills what still carries the job's ``RUNNER_TRACKING_ID``. Source:
actions/runner, ProcessInvoker.cs and JobExtension.cs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.hardware.lock import Lock
from tests.faults.conftest import RunPytest
from tests.faults.processes import GONE_WITHIN_S, GRANDCHILD, PytestRun, add_site_hook
from tests.faults.test_interruptions import long_test, one_test
from tests.scripted_gpus import scripted_gpus

EXEC = "exec {pytest}\n"
PLAIN = "{pytest}\necho the shell goes on\n"
TRACKING = "RUNNER_TRACKING_ID"
SIGINT_S, SIGTERM_S = 7.5, 2.5

DEAF = (
    GRANDCHILD
    + """
    import signal
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
"""
)
"""Every worker hears no signal that can be ignored, and has a helper that does not either."""

LINGERS = """
import sys
if "pytest_llmperf.worker" in sys.orig_argv:
    from pytest_llmperf import child
    child.die_with_parent = lambda: None
"""
"""Every worker outlives its pytest, as one does that hangs inside a driver."""


def cancel(step: subprocess.Popen[bytes]) -> float:
    """End a step as the runner does; after how many seconds its shell was gone."""
    began = time.monotonic()
    step.send_signal(signal.SIGINT)
    for patience_s, harder in ((SIGINT_S, signal.SIGTERM), (SIGTERM_S, signal.SIGKILL)):
        try:
            step.wait(patience_s)
            break
        except subprocess.TimeoutExpired:
            step.send_signal(harder)
    step.wait()
    return time.monotonic() - began


def clean_up(tracking_id: str) -> list[str]:
    """Kill what the job left, as the runner does when a job is over; the names of it."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(TRACKING) == tracking_id:
                left.append(" ".join(process.cmdline()))
                process.kill()
    return left


def locks(run: PytestRun) -> dict[str, bool]:
    """The leases of a run, and whether each is free."""
    found = {}
    for path in run.folder.glob("state/pytest-llmperf/leases/*.lock"):
        lock = Lock(path)
        found[path.stem.rpartition("-")[0]] = lock.take()
        lock.leave()
    return found


def are_free(run: PytestRun) -> bool:
    """Whether all leases are free at last: a process that ends closes its files late."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while not all(locks(run).values()):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return bool(locks(run))


def with_hook(folder: Path, code: str) -> str:
    """PYTHONPATH with a hook in front."""
    return os.pathsep.join(
        filter(None, (add_site_hook(folder, code), os.environ.get("PYTHONPATH")))
    )


def on_a_gpu(phase: str) -> str:
    return one_test("fake", disaster="hang", at=phase, gpu_count=1)


@pytest.mark.parametrize("phase", ["load", "prefill", "decode"])
def test_a_cancelled_step_leaves_no_deaf_engine_and_no_lease(
    phase: str, run_pytest: RunPytest, tmp_path: Path
) -> None:
    machine = scripted_gpus(tmp_path / "gpus", ["GPU-a", "GPU-b"], with_hook(tmp_path, DEAF))
    run = run_pytest(on_a_gpu(phase), "--llmperf-json=result.json", script=EXEC, **machine)
    run.wait_for_phase(phase)
    assert locks(run)["gpu-gpu-a"] is False
    assert cancel(run.process) < SIGINT_S
    assert run.process.returncode == 2
    assert run.family.survivors(0.5) == []
    assert are_free(run)
    written = json.loads((run.folder / "result.json").read_text())
    assert written["interrupted"] is True
    assert "the run was interrupted: 0 of 1 tests have a result" in written["notes"]
    assert "note: the run was interrupted" in run.output


@pytest.mark.engine
@pytest.mark.parametrize("phase", ["load", "decode"])
def test_a_cancelled_step_leaves_no_llama_cpp(phase: str, run_pytest: RunPytest) -> None:
    run = run_pytest(long_test("llama-cpp", phase), script=EXEC)
    run.wait_for_phase(phase)
    assert cancel(run.process) < SIGINT_S
    assert run.family.survivors(0.5) == []
    assert are_free(run)


@pytest.mark.parametrize("engine", ["fake", pytest.param("llama-cpp", marks=pytest.mark.engine)])
def test_a_shell_without_exec_passes_no_signal_on_and_the_runner_has_to_clean_up(
    engine: str, run_pytest: RunPytest, tmp_path: Path
) -> None:
    """Bash waits for pytest, which hears nothing, and dies of SIGTERM; pytest measures on."""
    hook = {"PYTHONPATH": with_hook(tmp_path, DEAF)} if engine == "fake" else {}
    source = long_test(engine, "decode")
    job = {TRACKING: f"github_{tmp_path.name}"}
    run = run_pytest(source, "--llmperf-json=result.json", script=PLAIN, **hook, **job)
    run.wait_for_phase("decode")
    took_s = cancel(run.process)
    assert run.process.returncode == -signal.SIGTERM
    assert SIGINT_S <= took_s < SIGINT_S + SIGTERM_S
    assert len(run.family.alive()) >= 2  # pytest and its engine
    left = clean_up(job[TRACKING])
    assert any("-m pytest " in line for line in left)
    assert run.family.survivors() == []
    assert are_free(run)
    assert list(run.folder.glob("*result.json*")) == []
    assert "the shell goes on" not in run.output


def test_a_cancelled_step_under_xdist_leaves_nothing(run_pytest: RunPytest) -> None:
    """Its own workers do not hear the runner; they end with the controller, and ours with them."""
    run = run_pytest(long_test("fake", "decode"), "-n1", script=EXEC)
    run.wait_for_phase("decode")
    assert cancel(run.process) <= SIGINT_S + SIGTERM_S + 1
    assert run.family.survivors(20) == []
    assert are_free(run)


def test_a_killed_run_holds_its_gpu_until_the_engine_is_gone(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    """Nobody else may load there before: the memory is not free yet."""
    machine = scripted_gpus(tmp_path / "gpus", ["GPU-a"], with_hook(tmp_path, LINGERS))
    run = run_pytest(on_a_gpu("decode"), **machine)
    worker = psutil.Process(run.wait_for_phase("decode"))
    run.process.kill()
    run.process.wait()
    time.sleep(0.5)
    assert worker.is_running()
    assert locks(run)["gpu-gpu-a"] is False
    worker.kill()
    assert run.family.survivors() == []
    assert are_free(run)
