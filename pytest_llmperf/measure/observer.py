"""What is watched beside the clock while one model is measured?"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from pytest_llmperf.backends import AllocatorPeak
from pytest_llmperf.backends.device import merge_peaks
from pytest_llmperf.hardware.core_speed import core_times_ns
from pytest_llmperf.hardware.counters import Counters, process_cpu_ns
from pytest_llmperf.hardware.cpu import affinity
from pytest_llmperf.hardware.gpu_watch import GpuSnapshot
from pytest_llmperf.measure import disturbances
from pytest_llmperf.measure.conditions import Conditions, ConditionsWatch
from pytest_llmperf.measure.device_memory import (
    DeviceMemory,
    Readings,
    device_memory,
    why_absent,
)
from pytest_llmperf.measure.gpu_conditions import (
    GpuConditions,
    gpu_conditions,
    gpu_findings,
    of_worker,
)
from pytest_llmperf.measure.instruments import Instruments
from pytest_llmperf.measure.memory import MemoryUse, MemoryWatch, PeakUnknown
from pytest_llmperf.measure.requests import Requests
from pytest_llmperf.worker.messages import Generated
from pytest_llmperf.worker.peaks import members
from pytest_llmperf.worker.pool import LoadedModel


@dataclass
class Observed:
    """Everything that was seen beside the clock."""

    memory: MemoryUse | None = None
    devices: list[DeviceMemory] = field(default_factory=list)
    conditions: Conditions | None = None
    gpu_conditions: list[GpuConditions] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    """Metric → why it is not known."""
    findings: list[str] = field(default_factory=list)


class Observer:
    """Watches one worker over one measurement, always between the requests."""

    def __init__(
        self, model: LoadedModel, instruments: Instruments, requests: Requests, *, watch: bool
    ) -> None:
        self._model, self._instruments, self._requests = model, instruments, requests
        self._unwatched = _why_unwatched(model, watch=watch)
        self._watch = self._unwatched is None
        self._on_gpu = model.engine.device != "cpu"
        if self._watch:
            pid = model.worker.pid
            self._memory = MemoryWatch(pid, model.load_memory, earlier_requests=model.requests)
            counters = Counters(pid, affinity(), cpu_clock=tree_cpu_ns)
            self._conditions = ConditionsWatch(counters, model.engine.threads)
            self._gpus_before: GpuSnapshot | None = None
            self._began: float | None = None

    def take(self, what: str) -> Generated:
        """Send one timed request and read the counters around it."""
        if not self._watch:
            return self._requests.send(what)
        if self._began is None:
            self._gpus_before, self._began = self._read_gpus(), time.monotonic()
        self._try_cores()
        self._conditions.before()
        answer = self._requests.send(what, observe="usage")
        # The worker of a server only waits: what it uses is not what computes.
        self._conditions.after([] if self._model.engine.server else answer.usage)
        return answer

    def finish(self, *, valid: bool) -> Observed:
        """Take the peaks of each phase in a request of their own, and put everything together.

        ``valid``: the engine answers as it should, so that it can be asked once more.
        """
        if self._unwatched is not None:
            return Observed(absent={"ram": self._unwatched})
        self._memory.keep()  # the next request resets the marks
        self._try_cores()
        conditions = self._conditions.summary()
        gpus = self._gpu_conditions()
        answer = self._requests.send("memory by phase", observe="memory") if valid else None
        seen = Observed(conditions=conditions)
        try:
            seen.memory = self._memory.finish(None if answer is None else answer.memory)
        except PeakUnknown as reason:
            seen.absent["ram"] = str(reason)
        if self._on_gpu:
            self._devices(seen, [] if answer is None else answer.devices)
        seen.gpu_conditions = of_worker(gpus, {each.uuid for each in seen.devices})
        seen.findings = [*disturbances.findings(conditions), *gpu_findings(seen.gpu_conditions)]
        if self._instruments.gpu is not None and self._instruments.gpu.trouble is not None:
            seen.findings.append(self._instruments.gpu.trouble)
        return seen

    def _try_cores(self) -> None:
        """Between two requests, so that what a neighbour takes of a core is seen near them."""
        if self._on_gpu:
            return  # which computes by itself
        with self._model.worker.still():
            self._conditions.between(core_times_ns())

    def _read_gpus(self) -> GpuSnapshot | None:
        return self._instruments.read_gpus(self._model.seat) if self._on_gpu else None

    def _gpu_conditions(self) -> list[GpuConditions]:
        after = self._read_gpus()
        if self._gpus_before is None or after is None or self._began is None:
            return []
        wall_s = time.monotonic() - self._began
        pids = members(self._model.worker.pid)
        return gpu_conditions(self._gpus_before, after, pids, wall_s=wall_s, idle=self._model.idle)

    def _devices(self, seen: Observed, peaks: list[AllocatorPeak]) -> None:
        model, gpu = self._model, self._instruments.gpu
        readings = Readings(
            idle=model.idle,
            after=self._read_gpus(),
            own_pids=frozenset(members(model.worker.pid)),
            trouble=gpu.trouble if gpu is not None else "this machine has no NVIDIA GPU",
        )
        seen.devices = device_memory(merge_peaks(model.load_devices, peaks), readings)
        if not any(device.vram for device in seen.devices):
            seen.absent["vram"] = why_absent(seen.devices, readings)


def _why_unwatched(model: LoadedModel, *, watch: bool) -> str | None:
    """Why neither memory nor conditions can be watched; None: they can."""
    if not watch:
        return "memory was not watched"
    if model.engine.server == "met":
        return "the server was not started here: its memory is not the worker's"
    return None


def tree_cpu_ns(pid: int) -> int:
    """CPU time of the worker and all its children. Raises OSError if the worker is gone."""
    total = process_cpu_ns(pid)
    for each in members(pid)[1:]:
        with contextlib.suppress(OSError):  # it has just ended
            total += process_cpu_ns(each)
    return total
