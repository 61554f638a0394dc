"""Does the watch tell what the driver says, and survive everything a driver does?"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import child
from pytest_llmperf.hardware import nvidia
from pytest_llmperf.hardware.gpu_watch import GpuProcess, GpuReading, GpuWatch, Violations

GIB = 2**30
PATIENT_S = 60.0
GPU: dict[str, Any] = {
    "uuid": "GPU-a",
    "used": 3 * GIB,
    "violations": {"0": 10, "1": 20, "3": 30, "5": 40},
    "processes": [],
}


class Machine:
    """A driver whose answers can be changed between two readings."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "state.json"
        (folder / "library").mkdir()
        script = Path(__file__).with_name("scripted_pynvml.py")
        shutil.copy(script, folder / "library/pynvml.py")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder / "library"),
            "NVML_SCRIPT": "state",
            "NVML_STATE": str(self._state),
        }
        self.watch: GpuWatch | None = None
        self.set()

    def set(self, *gpus: dict[str, Any], act: str | None = None) -> None:
        changed = self._state.with_suffix(".new")
        changed.write_text(json.dumps({"act": act, "gpus": gpus or [GPU]}))
        changed.replace(self._state)

    def start(self, *, script: str = "state", deadline_s: float = PATIENT_S) -> GpuWatch:
        environment = {**self.environment, "NVML_SCRIPT": script}
        self.watch = GpuWatch.start(
            environment=environment, deadline_s=deadline_s, start_deadline_s=PATIENT_S
        )
        return self.watch


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    if made.watch is not None:
        made.watch.close()


def test_a_reading_names_memory_counters_and_processes(machine: Machine) -> None:
    processes = [[123, 2 * GIB], [200000, None], [5, 2**64 - 1]]
    machine.set({**GPU, "processes": processes})
    snapshot = machine.start().read()
    assert snapshot is not None
    assert snapshot.gpus == (
        GpuReading(
            uuid="GPU-a",
            pci="00000000:00:00.0",
            name="NVIDIA GeForce RTX 4060 Ti",
            integrated=False,
            used_bytes=3 * GIB,
            total_bytes=16 * GIB,
            violations=Violations(power_ns=10, thermal_ns=20, board_ns=30, reliability_ns=40),
            processes=(
                GpuProcess(pid=123, used_bytes=2 * GIB, name="/usr/bin/program123"),
                GpuProcess(pid=200000),
                GpuProcess(pid=5, name="/usr/bin/program5"),
            ),
        ),
    )


def test_each_reading_is_of_its_own_moment(machine: Machine) -> None:
    watch = machine.start()
    first = watch.read()
    machine.set({**GPU, "used": 5 * GIB})
    second = watch.read()
    assert first is not None
    assert second is not None
    assert [first.gpus[0].used_bytes, second.gpus[0].used_bytes] == [3 * GIB, 5 * GIB]
    assert second.at_ns > first.at_ns


def test_what_a_gpu_does_not_offer_is_unknown_and_not_zero(machine: Machine) -> None:
    violations = {"1": 2**64 - 1}
    machine.set({**GPU, "used": None, "violations": violations, "processes": None})
    snapshot = machine.start().read()
    assert snapshot is not None
    (gpu,) = snapshot.gpus
    assert gpu.integrated
    assert (gpu.used_bytes, gpu.total_bytes, gpu.processes) == (None, None, None)
    assert gpu.violations == Violations()


def test_a_gpu_lost_meanwhile_does_not_hide_the_other(machine: Machine) -> None:
    other = {**GPU, "uuid": "GPU-b"}
    machine.set(GPU, other)
    watch = machine.start()
    assert watch.read() is not None
    machine.set({**GPU, "error": 15}, other)
    snapshot = watch.read()
    assert snapshot is not None
    lost, well = snapshot.gpus
    assert lost.uuid == "GPU-a"
    assert lost.trouble is not None
    assert "GPU is lost" in lost.trouble
    assert (lost.integrated, lost.used_bytes) == (False, None)
    assert well.used_bytes == 3 * GIB
    assert watch.trouble is None


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("hang", ["stopped answering", "nothing for 0.5 s", "after 1 reading", "dmesg"]),
        ("crash", ["SIGSEGV", "after 1 reading"]),
        ("exit", ["exited with code 3", "libnvidia-ml: internal error"]),
        ("garbage", ["unreadable", "after 1 reading"]),
    ],
)
def test_a_driver_that_fails_later_ends_the_watch_and_nothing_else(
    machine: Machine, act: str, words: list[str]
) -> None:
    watch = machine.start(deadline_s=0.5 if act == "hang" else PATIENT_S)
    assert watch.read() is not None
    machine.set(act=act)
    assert watch.read() is None
    machine.set()
    assert watch.read() is None
    assert watch.trouble is not None
    for word in [*words, "GPU conditions and memory are unknown"]:
        assert word in watch.trouble


@pytest.mark.parametrize(("script", "words"), [("refuse 999", "error 999"), ("crash", "SIGSEGV")])
def test_a_driver_that_never_came_up_is_named(machine: Machine, script: str, words: str) -> None:
    watch = machine.start(script=script)
    assert watch.read() is None
    assert watch.trouble is not None
    assert words in watch.trouble


def test_a_process_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: object, **options: object) -> child.Child:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(child, "start", start)
    watch = GpuWatch.start()
    assert watch.read() is None
    assert watch.trouble is not None
    assert "Cannot allocate memory" in watch.trouble


def test_an_interrupted_question_is_not_answered_later(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> bool:
        raise KeyboardInterrupt

    watch = machine.start()
    with monkeypatch.context() as patch:
        patch.setattr(child, "is_ready", interrupted)
        with pytest.raises(KeyboardInterrupt):
            watch.read()
    assert watch.read() is None
    assert watch.trouble is not None
    assert "interrupted" in watch.trouble


def descriptors() -> list[str]:
    """The open ones, but not those with which this very question is asked."""
    listed = (path.name for path in Path("/proc/self/fd").iterdir())
    return sorted(number for number in listed if Path(f"/proc/self/fd/{number}").exists())


def test_closing_ends_the_process_and_gives_back_every_descriptor(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    real_start = child.start

    def start(argv: list[str], **options: Any) -> child.Child:
        started.append(real_start(argv, **options))
        return started[-1]

    monkeypatch.setattr(child, "start", start)
    before = descriptors()
    watch = machine.start()
    assert watch.read() is not None
    watch.close()
    watch.close()
    assert descriptors() == before
    assert started[0].leader.returncode == -signal.SIGKILL
    assert watch.read() is None


def test_a_process_held_by_the_driver_does_not_hold_us(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process inside a driver call that never returns cannot be made here: it is played."""

    class Immortal(child.Child):
        def has_exited(self) -> bool:
            return False

        def end(self, *, grace_s: float = 0.0) -> int:
            raise AssertionError("would wait for ever")

    real_start, started = child.start, []

    def start(argv: list[str], **options: Any) -> child.Child:
        process = real_start(argv, **options)
        started.append(process)
        return Immortal(process.leader, process.death_pipe)

    monkeypatch.setattr(child, "start", start)
    monkeypatch.setattr(nvidia, "_KILL_S", 0.05)
    monkeypatch.setattr(nvidia, "_stuck", [])
    machine.set(act="hang")
    watch = GpuWatch.start(environment=machine.environment, deadline_s=0.05, start_deadline_s=0.05)
    assert watch.read() is None
    assert watch.trouble is not None
    assert "stopped answering" in watch.trouble
    assert started[0].end() == -signal.SIGKILL
