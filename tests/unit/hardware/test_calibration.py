"""Does a probe tell what it measured, and is every way in which it fails a text?"""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.child import Child
from pytest_llmperf.hardware.calibration import (
    Calibration,
    Probe,
    calibrate_cpu,
    calibrate_cuda,
    calibration,
    working_set_bytes,
)
from pytest_llmperf.hardware.cpu import affinity, from_linux
from pytest_llmperf.hardware.facts import Cpu, Memory
from tests.unit.hardware import trees

MIB = 2**20
GIB = 2**30
PATIENT_S = 120.0
"""Longer than a probe takes on the most loaded machine; no test waits for it to pass."""


def memory(usable_bytes: int) -> Memory:
    return Memory(
        total_bytes=64 * GIB,
        available_bytes=usable_bytes,
        cgroup_limit_bytes=None,
        usable_bytes=usable_bytes,
    )


@pytest.fixture
def cpu(tmp_path: Path) -> Cpu:
    """Two cores with a last-level cache of 16 MiB."""
    names = trees.x86_cpuinfo("GenuineIntel", 6, 154, "Made up", trees.LAPTOP_FLAGS, 2)
    trees.write(tmp_path, {"proc/cpuinfo": names, **trees.caches(2, 2)})
    found, _ = from_linux(tmp_path, {0, 1})
    return found


def with_module(folder: Path, name: str, content: str) -> dict[str, str]:
    """An environment in which ``import NAME`` runs ``content``."""
    (folder / "library").mkdir()
    (folder / f"library/{name}.py").write_text(content)
    return {**os.environ, "PYTHONPATH": str(folder / "library")}


def probe(*gigabytes_per_s: float, size: int = 256 * MIB) -> Probe:
    return Probe(
        bandwidths=tuple(rate * 1e9 for rate in gigabytes_per_s),
        working_set_bytes=size,
        threads=2,
        kernel="reading",
        matmul_rates=(1e9, 3e9, 2e9),
        matmul_dtype="float32",
        matmul="multiplying",
    )


def test_this_machine_is_measured(cpu: Cpu) -> None:
    allowed = affinity()
    here = msgspec.structs.replace(cpu, usable_cores=min(2, len(allowed) if allowed else 1))
    here_cache = (here.l2_cache_bytes or 0) + (here.l3_cache_bytes or 0)
    found = calibrate_cpu(here, memory(128 * MIB), deadline_s=PATIENT_S)
    assert isinstance(found, Calibration), found
    assert (found.device, found.repeats, found.threads) == ("cpu", 20, here.usable_cores)
    assert 0 < found.bandwidth_low <= found.bandwidth_median <= found.bandwidth_best
    assert found.flops_best is not None
    assert found.flops_best > 0
    assert (found.working_set_bytes, found.last_level_cache_bytes) == (16 * MIB, here_cache)
    assert any("less than twice the" in each for each in found.findings)
    assert "over 16 MiB" in found.how
    assert "numpy matmul" in found.how


def test_how_much_is_read() -> None:
    assert working_set_bytes(32 * MIB, 64 * GIB) == 256 * MIB
    assert working_set_bytes(480 * MIB, 64 * GIB) == 960 * MIB
    assert working_set_bytes(480 * MIB, 4 * GIB) == 512 * MIB
    assert working_set_bytes(None, 64 * GIB) == 256 * MIB


def test_a_steady_probe_has_no_findings() -> None:
    found = calibration(probe(20, 22, 21, 23, 24), 32 * MIB, 1.5)
    assert (found.bandwidth_best, found.bandwidth_median) == (24e9, 22e9)
    assert (found.bandwidth_low, found.bandwidth_high) == (21e9, 23e9)
    assert (found.flops_best, found.flops_dtype, found.wall_s) == (3e9, "float32", 1.5)
    assert found.how == "reading over 256 MiB by 2 threads; multiplying"
    assert found.findings == ()


def test_a_disturbed_probe_says_so() -> None:
    (finding,) = calibration(probe(20, 20.1, 26, 19, 20), 32 * MIB, 1.0).findings
    assert finding == "the bandwidth probe was disturbed: best 26.0 GB/s, median 20.0 GB/s"


def test_a_cache_of_unknown_size_is_said() -> None:
    (finding,) = calibration(probe(20, 20), None, 1.0).findings
    assert "last-level cache is not known: the bandwidth probe read 256 MiB" in finding


@pytest.mark.parametrize(
    ("numpy", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("raise ImportError('libopenblas is gone')", 'libopenblas is gone"'),
        ("import os; print('hello'); os._exit(0)", "the probe's answer is unreadable"),
    ],
)
def test_a_probe_that_fails_is_a_text(tmp_path: Path, cpu: Cpu, numpy: str, why: str) -> None:
    environment = with_module(tmp_path, "numpy", numpy)
    found = calibrate_cpu(cpu, memory(GIB), deadline_s=PATIENT_S, environment=environment)
    assert isinstance(found, str)
    assert found.startswith("the memory bandwidth is not known: ")
    assert why in found


def test_a_probe_that_is_interrupted_does_not_run_on(
    tmp_path: Path, cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Child] = []

    def interrupt(probe: Child, timeout_s: float) -> bool:
        started.append(probe)
        raise KeyboardInterrupt

    monkeypatch.setattr(Child, "wait_for_exit", interrupt)
    environment = with_module(tmp_path, "numpy", "import time; time.sleep(600)")
    with pytest.raises(KeyboardInterrupt):
        calibrate_cpu(cpu, memory(GIB), environment=environment)
    assert [probe.leader.returncode for probe in started] == [-signal.SIGKILL]


def test_a_probe_that_hangs_is_ended(tmp_path: Path, cpu: Cpu) -> None:
    pid = tmp_path / "pid"
    numpy = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    environment = with_module(tmp_path, "numpy", numpy)
    found = calibrate_cpu(cpu, memory(GIB), deadline_s=5.0, environment=environment)
    assert found == "the memory bandwidth is not known: the probe did not end within 5 s"
    assert pid.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


TORCH = """
class Tensor:
    def sum(self):
        pass

class Event:
    def __init__(self, enable_timing):
        pass
    def record(self):
        pass
    def elapsed_time(self, other):
        return 2.0

class Properties:
    uuid = "1234"
    L2_cache_size = 50 * 2**20

class cuda:
    Event = Event
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    mem_get_info = staticmethod(lambda index: (2**31, 2**33))
    get_device_properties = staticmethod(lambda index: Properties)
    synchronize = staticmethod(lambda: None)
    @staticmethod
    def set_device(index):
        if index:
            raise RuntimeError("out of memory\\nat some place")

class version:
    cuda = "12.8"

float32 = bfloat16 = None
ones = empty_like = lambda *_, **__: Tensor()
mm = lambda *_, **__: None
"""


def test_each_gpu_that_answers_is_measured(tmp_path: Path) -> None:
    """A scripted torch: 1 GiB, half of what is free, in 2 ms; the second GPU fails."""
    environment = with_module(tmp_path, "torch", TORCH)
    found = calibrate_cuda(environment=environment, deadline_s=PATIENT_S)
    assert not isinstance(found, str), found
    (gpu,) = found
    assert (gpu.device, gpu.last_level_cache_bytes) == ("GPU-1234", 50 * MIB)
    assert gpu.bandwidth_median == pytest.approx(GIB / 2e-3)
    assert gpu.flops_best == pytest.approx(2 * 8192**3 / 2e-3)
    assert gpu.flops_dtype == "bfloat16"
    assert gpu.findings == ("cuda:1 could not be probed: out of memory",)


def test_without_torch_the_gpu_is_not_known(tmp_path: Path) -> None:
    environment = with_module(tmp_path, "torch", "raise ImportError('no torch here')")
    found = calibrate_cuda(environment=environment, deadline_s=PATIENT_S)
    assert found == (
        "the GPU's memory bandwidth is not known: torch cannot be imported: no torch here"
    )


@pytest.mark.parametrize("rates", [(-0.0,) * 20, (1e9,) * 19 + (math.inf,), ()])
def test_rates_that_cannot_be_are_unknown(
    rates: tuple[float, ...], cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe(bandwidths=rates, working_set_bytes=1, threads=2, kernel="made up")
    answer = msgspec.json.encode(probe).decode().replace("null", "1e999")
    monkeypatch.setattr("pytest_llmperf.hardware.calibration._run", lambda *_: answer)
    found = calibrate_cpu(cpu, memory(GIB))
    assert isinstance(found, str)
    assert found.startswith("the memory bandwidth is not known: ")
