"""GPUs and machines made up for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_llmperf.backends.device import AllocatorPeak
from pytest_llmperf.hardware.gpu_watch import GpuProcess, GpuReading, GpuSnapshot

MIB = 2**20
GIB = 2**30
SECOND_NS = 10**9
WORKER = 4000
"""Process id of the worker."""
STRANGER = 77


def gpu(uuid: str = "GPU-aaaa", **changes: Any) -> GpuReading:
    told: dict[str, Any] = {
        "uuid": uuid,
        "pci": "00000000:01:00.0",
        "name": "NVIDIA GeForce RTX 4060 Ti",
        "integrated": False,
        "used_bytes": 1 * GIB,
        "total_bytes": 16 * GIB,
        "processes": (),
    }
    return GpuReading(**{**told, **changes})


def snapshot(*gpus: GpuReading, at_s: float = 0.0) -> GpuSnapshot:
    return GpuSnapshot(at_ns=int(at_s * SECOND_NS), gpus=gpus)


def process(pid: int, used_bytes: int | None = None, name: str | None = None) -> GpuProcess:
    return GpuProcess(pid=pid, used_bytes=used_bytes, name=name)


def peak(uuid: str | None = "aaaa", **changes: Any) -> AllocatorPeak:
    told: dict[str, Any] = {
        "uuid": uuid,
        "device": "cuda:0",
        "peak_allocated_bytes": 4 * GIB,
        "peak_reserved_bytes": 6 * GIB,
        "reserved_bytes": 5 * GIB,
        "used_on_device_bytes": 7 * GIB,
    }
    return AllocatorPeak(**{**told, **changes})


def machine(root: Path, *, container: bool = False, commands: dict[int, str] | None = None) -> Path:
    """A /proc in which process ids are the host's, or those of a container."""
    namespace = root / "proc/self/ns"
    namespace.mkdir(parents=True)
    number = 4026532448 if container else 4026531836
    (namespace / "pid").symlink_to(f"pid:[{number}]")
    for pid, command in (commands or {}).items():
        folder = root / f"proc/{pid}"
        folder.mkdir()
        (folder / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    return root
