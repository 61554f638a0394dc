"""Is an NVIDIA driver's every mood an answer or a finding, and never a traceback or a hang?"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import child
from pytest_llmperf.hardware import nvidia
from pytest_llmperf.hardware.nvidia import Look

PATIENT_S = 60.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with a trace of the driver, and a library that a script stands in for."""
    for folder in ("machine/dev", "library"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "machine/dev/nvidiactl").touch()
    script = Path(__file__).with_name("scripted_pynvml.py")
    shutil.copy(script, tmp_path / "library/pynvml.py")
    return tmp_path / "machine"


def environment(root: Path, script: str) -> dict[str, str]:
    library = str(root.parent / "library")
    return {**os.environ, "PYTHONPATH": library, "NVML_SCRIPT": script}


def look(root: Path, script: str, *, deadline_s: float = PATIENT_S) -> Look:
    return nvidia.look(root, deadline_s=deadline_s, environment=environment(root, script))


def test_two_gpus(root: Path) -> None:
    found = look(root, "two")
    assert found.findings == ()
    first, second = found.accelerators
    assert (first.name, first.vendor, first.kind) == ("RTX 4060 Ti", "nvidia", "cuda")
    assert first.memory_bytes == 16380 * 2**20
    assert not first.integrated
    assert (first.compute_capability, first.driver) == ("8.9", "570.124.06")
    assert (first.uuid, second.uuid) == ("GPU-gpu0", "GPU-gpu1")
    assert second.pci == "00000000:01:00.0"


def test_memory_of_a_driver_without_version_2(root: Path) -> None:
    (gpu,) = look(root, "old driver").accelerators
    assert gpu.memory_bytes == 16380 * 2**20


def test_gpu_that_shares_ram_has_no_memory_of_its_own(root: Path) -> None:
    (gpu,) = look(root, "integrated").accelerators
    assert (gpu.name, gpu.integrated, gpu.memory_bytes) == ("GB10", True, None)


@pytest.mark.parametrize("script", ["mig", "mig without names"])
def test_divided_gpu_is_its_instances(root: Path, script: str) -> None:
    found = look(root, script)
    assert [gpu.uuid for gpu in found.accelerators] == ["MIG-mig0", "MIG-mig2"]
    gpu = found.accelerators[0]
    assert (gpu.mig, gpu.name) == ("1g.10gb", "H100 80GB HBM3")
    assert gpu.memory_bytes == 9984 * 2**20
    assert gpu.compute_capability == "8.9"


def test_divided_gpu_without_instances_is_no_gpu_and_says_what_to_do(root: Path) -> None:
    found = look(root, "mig empty")
    assert found.accelerators == ()
    assert "nvidia-smi -i 0 -mig 0" in found.findings[0]


def test_one_lost_gpu_does_not_hide_the_other(root: Path) -> None:
    found = look(root, "one lost")
    assert [gpu.uuid for gpu in found.accelerators] == ["GPU-gpu1"]
    assert "GPU 0" in found.findings[0]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("refuse 18", ["driver and library differ", "reboot"]),
        ("refuse 9", ["not loaded", "modprobe"]),
        ("refuse 4", ["no permission", "/dev/nvidia"]),
        ("refuse 12", ["libnvidia-ml.so.1"]),
        ("refuse 999", ["Refused", "999", "nvidia-smi"]),
        ("none", ["gives this process no GPU"]),
        ("crash", ["SIGSEGV", "reinstall"]),
        ("silent exit", ["unreadable answer", "cannot map the device"]),
        ("failed exit", ["exit code 3", "assertion failed in libnvidia-ml"]),
        ("garbage", ["unreadable answer"]),
    ],
)
def test_trouble_is_one_finding_with_its_remedy(root: Path, script: str, words: list[str]) -> None:
    found = look(root, script)
    assert found.accelerators == ()
    (finding,) = found.findings
    for word in words:
        assert word in finding
    assert "\n" not in finding


def test_version_mismatch_names_the_running_driver(root: Path) -> None:
    (root / "sys/module/nvidia").mkdir(parents=True)
    (root / "sys/module/nvidia/version").write_text("550.54.14\n")
    assert "550.54.14" in look(root, "refuse 18").findings[0]


def test_missing_library_package_is_a_finding(root: Path) -> None:
    (root.parent / "library/pynvml.py").write_text("raise ImportError('built for another')\n")
    assert "built for another" in look(root, "two").findings[0]


def test_hung_driver_is_given_up_and_its_process_ended(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_start, started = child.start, []

    def start(argv: list[str], **options: Any) -> child.Child:
        started.append(real_start(argv, **options))
        return started[-1]

    monkeypatch.setattr(child, "start", start)
    found = look(root, "hang", deadline_s=0.5)
    assert "did not answer within 0.5 s" in found.findings[0]
    assert "reboot" in found.findings[0]
    assert started[0].leader.returncode == -signal.SIGKILL


def test_process_that_not_even_sigkill_ends_does_not_hold_us(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process inside a driver call that never returns cannot be made here: it is played."""

    class Immortal(child.Child):
        def has_exited(self) -> bool:
            return False

        def end(self, *, grace_s: float = 0.0) -> int:
            raise AssertionError("would wait for ever")

    real_start, started = child.start, []

    def start(*arguments: object, **options: object) -> child.Child:
        process = real_start([sys.executable, "-c", "import time; time.sleep(600)"])
        started.append(process)
        return Immortal(process.leader, process.death_pipe)

    monkeypatch.setattr(child, "start", start)
    monkeypatch.setattr(nvidia, "_KILL_S", 0.05)
    monkeypatch.setattr(nvidia, "_stuck", [])
    found = look(root, "", deadline_s=0.05)
    assert "hangs" in found.findings[0]
    assert started[0].end() == -signal.SIGKILL


@pytest.mark.parametrize("greeting", ["from the interpreter", "from the driver"])
def test_words_on_stdout_do_not_spoil_the_answer(root: Path, greeting: str) -> None:
    if greeting == "from the interpreter":
        (root.parent / "library/sitecustomize.py").write_text("print('welcome', flush=True)\n")
    assert len(look(root, "chatty").accelerators) == 2


def test_no_process_is_started_without_a_trace_of_a_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*arguments: object, **options: object) -> child.Child:
        raise AssertionError("a process was started")

    monkeypatch.setattr(child, "start", start)
    assert nvidia.look(tmp_path, environment={}) == Look()


@pytest.mark.parametrize(
    "trace",
    ["proc/driver/nvidia/version", "usr/lib/wsl/lib/libnvidia-ml.so.1", "opt/x/libnvidia-ml.so.1"],
)
def test_a_library_alone_is_a_trace(root: Path, trace: str) -> None:
    (root / "dev/nvidiactl").unlink()
    path = root / trace
    path.parent.mkdir(parents=True)
    path.touch()
    variables = {**environment(root, "two"), "LD_LIBRARY_PATH": f"/nowhere:{root / 'opt/x'}"}
    found = nvidia.look(root, deadline_s=PATIENT_S, environment=variables)
    assert len(found.accelerators) == 2


def test_card_on_the_bus_without_a_driver_is_named(tmp_path: Path) -> None:
    """Constructed from the kernel's Documentation/ABI/testing/sysfs-bus-pci."""
    for address, device_class in (("0000:01:00.0", "0x030000"), ("0000:01:00.1", "0x040300")):
        device = tmp_path / "sys/bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text(f"{device_class}\n")
    (finding,) = nvidia.look(tmp_path, environment={}).findings
    assert "0000:01:00.0" in finding
    assert "--gpus all" in finding


def test_broken_memory_of_a_card_is_a_finding(root: Path) -> None:
    found = look(root, "broken memory")
    assert len(found.accelerators) == 1
    errors, rows = found.findings
    assert errors.startswith("NVIDIA GPU 0 (NVIDIA GeForce RTX 4060 Ti) has 2 memory errors that")
    assert "broken rows of memory that wait to be replaced: reset it or reboot" in rows


def test_an_instance_has_the_older_name_too(root: Path) -> None:
    assert [gpu.mig_name for gpu in look(root, "mig").accelerators] == [
        "MIG-GPU-gpu0/1/0",
        "MIG-GPU-gpu0/3/0",
    ]
