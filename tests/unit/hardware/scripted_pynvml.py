"""What does NVIDIA's driver library say, in a test? A stand-in that answers as it is told.

Copied as ``pynvml.py`` into a folder on the child's path; ``NVML_SCRIPT`` chooses what it plays.
Under the script ``state`` it reads a file (``NVML_STATE``) at every call, so that a test can change
the machine between two questions: ``{"act": null, "gpus": [...]}``, see ``test_gpu_watch.py``.
Constructed from NVIDIA's NVML API reference: no driver is on the machines that run the unit tests.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SCRIPT = os.environ["NVML_SCRIPT"]
GIB = 2**30
nvmlMemory_v2 = 0x2000028  # noqa: N816 - the name in nvml.h
NVML_PERF_POLICY_POWER = 0
NVML_PERF_POLICY_THERMAL = 1
NVML_PERF_POLICY_BOARD_LIMIT = 3
NVML_PERF_POLICY_RELIABILITY = 5


class NVMLError(Exception):
    def __init__(self, value: int, text: str = "scripted") -> None:
        super().__init__(text)
        self.value = value


def state() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Path(os.environ["NVML_STATE"]).read_text())
    return told


def gpu(handle: str) -> dict[str, Any]:
    """The GPU as the state describes it, after whatever the driver is to do first."""
    now = state()
    if now["act"] == "hang":
        time.sleep(600)
    if now["act"] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if now["act"] == "exit":
        print("libnvidia-ml: internal error", flush=True)
        os._exit(3)
    if now["act"] == "garbage":
        babble(b"\x00\xffERROR{\n")
        time.sleep(600)
    found: dict[str, Any] = now["gpus"][int(handle[-1])]
    if "error" in found:
        raise NVMLError(found["error"], "GPU is lost")
    return found


def babble(words: bytes) -> None:
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, words)
        except OSError:
            continue


def nvmlInit() -> None:
    if SCRIPT == "hang":
        time.sleep(600)
    if SCRIPT == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if SCRIPT == "silent exit":
        print("cannot map the device", flush=True)
        os._exit(0)
    if SCRIPT == "failed exit":
        print("assertion failed in libnvidia-ml", flush=True)
        os._exit(3)
    if SCRIPT == "garbage":
        babble(b"\x00\xffERROR{")
        os._exit(0)
    if SCRIPT == "chatty":
        print("NVRM: this line belongs to the driver", flush=True)
    if SCRIPT.startswith("refuse "):
        raise NVMLError(int(SCRIPT.split()[1]), "Refused")


def nvmlShutdown() -> None:
    return None


def nvmlSystemGetDriverVersion() -> str:
    return "570.124.06"


def nvmlDeviceGetCount() -> int:
    if SCRIPT == "none":
        return 0
    if SCRIPT == "state":
        return len(state()["gpus"])
    return 2 if SCRIPT in ("two", "one lost", "chatty") else 1


def nvmlDeviceGetHandleByIndex(index: int) -> str:
    if SCRIPT == "one lost" and index == 0:
        raise NVMLError(15, "GPU is lost")
    return f"gpu{index}"


def nvmlDeviceGetName(handle: str) -> str:
    if SCRIPT == "integrated":
        return "NVIDIA GB10"
    if SCRIPT.startswith("mig"):
        if handle.startswith("mig") and SCRIPT == "mig without names":
            raise NVMLError(3)
        return "NVIDIA H100 80GB HBM3" + (" MIG 1g.10gb" if handle.startswith("mig") else "")
    return "NVIDIA GeForce RTX 4060 Ti"


def nvmlDeviceGetMemoryInfo(handle: str, version: int | None = None) -> SimpleNamespace:
    if SCRIPT == "state":
        if gpu(handle)["used"] is None:
            raise NVMLError(3, "Not Supported")
        return SimpleNamespace(total=16 * GIB, used=gpu(handle)["used"])
    if SCRIPT == "integrated":
        raise NVMLError(3, "Not Supported")
    if SCRIPT == "old driver" and version is not None:
        raise NVMLError(13, "Function Not Found")
    if handle.startswith("mig"):
        return SimpleNamespace(total=9984 * 2**20)
    return SimpleNamespace(total=16380 * 2**20)


def nvmlDeviceGetCudaComputeCapability(handle: str) -> tuple[int, int]:
    if handle.startswith("mig"):
        raise NVMLError(2, "Invalid Argument")
    return (12, 1) if SCRIPT == "integrated" else (8, 9)


def nvmlDeviceGetPciInfo(handle: str) -> SimpleNamespace:
    return SimpleNamespace(busId=f"00000000:0{handle[-1]}:00.0")


def nvmlDeviceGetUUID(handle: str) -> str:
    if SCRIPT == "state":
        return str(state()["gpus"][int(handle[-1])]["uuid"])
    return f"{'MIG' if handle.startswith('mig') else 'GPU'}-{handle}"


def nvmlDeviceGetMigMode(handle: str) -> list[int]:
    if not SCRIPT.startswith("mig"):
        raise NVMLError(3, "Not Supported")
    return [1, 1]


def nvmlDeviceGetMaxMigDeviceCount(handle: str) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(parent: str, slot: int) -> str:
    if SCRIPT == "mig empty" or slot not in (0, 2):
        raise NVMLError(6, "Not Found")
    return f"mig{slot}"


def nvmlDeviceGetTotalEccErrors(handle: str, kind: int, counter: int) -> int:
    if SCRIPT != "broken memory" or (kind, counter) != (1, 0):
        raise NVMLError(3, "Not Supported")
    return 2


def nvmlDeviceGetRemappedRows(handle: str) -> tuple[int, int, int, int]:
    if SCRIPT != "broken memory":
        raise NVMLError(3, "Not Supported")
    return (1, 2, 1, 0)


def nvmlDeviceGetGpuInstanceId(handle: str) -> int:
    return int(handle[-1]) + 1


def nvmlDeviceGetComputeInstanceId(handle: str) -> int:
    return 0


def nvmlDeviceGetAttributes(handle: str) -> SimpleNamespace:
    return SimpleNamespace(gpuInstanceSliceCount=1, memorySizeMB=9984)


def nvmlDeviceGetViolationStatus(handle: str, policy: int) -> SimpleNamespace:
    counted = gpu(handle)["violations"].get(str(policy))
    if counted is None:
        raise NVMLError(3, "Not Supported")
    return SimpleNamespace(violationTime=counted, referenceTime=0)


def nvmlDeviceGetComputeRunningProcesses(handle: str) -> list[SimpleNamespace]:
    listed = gpu(handle)["processes"]
    if listed is None:
        raise NVMLError(4, "Insufficient Permissions")
    return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in listed]


def nvmlSystemGetProcessName(pid: int) -> str:
    if pid > 100000:
        raise NVMLError(6, "Not Found")
    return f"/usr/bin/program{pid}"
