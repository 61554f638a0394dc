"""What do the NVIDIA GPUs do now? The child process that is asked again and again.

Run as ``python -m pytest_llmperf.hardware.nvml_watch REQUESTS ANSWERS``, two inherited pipes. For
each byte of the first it writes one :class:`~pytest_llmperf.hardware.gpu_watch.GpuSnapshot` as a
line of JSON to the second; between requests it sleeps in read(2). Whatever the library itself
prints goes to stderr.

Sources: NVIDIA's NVML API reference. ``nvmlViolationTime_t.violationTime`` is in nanoseconds;
``nvmlPerfPolicyType_t`` counts the time below application clocks for each cause;
``nvmlProcessInfo_t.usedGpuMemory`` is in bytes, or NVML_VALUE_NOT_AVAILABLE. The newer counters by
field number (NVML_FI_DEV_CLOCKS_EVENT_REASON_*) are left alone: numbers 251 to 253 are slowdowns in
some drivers and power smoothing in others, and the answer does not say which was meant.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import msgspec

from pytest_llmperf import child
from pytest_llmperf.hardware.gpu_watch import (
    GpuProcess,
    GpuReading,
    GpuSnapshot,
    Violations,
)
from pytest_llmperf.hardware.nvml import Library, Unit, error_code

_NOT_AVAILABLE = 2**64 - 1
"""NVML_VALUE_NOT_AVAILABLE as an unsigned 64-bit number; pynvml makes None of it for processes."""


def main() -> None:
    """Answer every request until the pipe is closed."""
    child.die_with_parent()
    requests, answers = (int(word) for word in sys.argv[1:])
    os.dup2(2, 1)
    watcher = _watcher()
    with os.fdopen(requests, "rb", buffering=0) as asked, os.fdopen(answers, "wb") as told:
        while asked.read(1):
            snapshot = GpuSnapshot(refusal=watcher) if isinstance(watcher, str) else watcher.look()
            told.write(msgspec.json.encode(snapshot) + b"\n")
            told.flush()


def _watcher() -> _Watcher | str:
    """The initialized library, or why there is none."""
    try:
        import pynvml
    except ImportError as error:
        return f"nvidia-ml-py cannot be imported: {error}"
    try:
        pynvml.nvmlInit()
        return _Watcher(Library(pynvml))
    except pynvml.NVMLError as error:
        return f"NVML refused: {error} (error {error_code(error)})"


class _Watcher:
    """The units found at the start; what they are does not change while we look."""

    def __init__(self, library: Library) -> None:
        self._library = library
        units = list(library.units())
        self._units = [(unit, library.uuid(unit), library.pci(unit)) for unit in units]

    def look(self) -> GpuSnapshot:
        return GpuSnapshot(
            at_ns=time.monotonic_ns(),
            gpus=tuple(self._reading(*known) for known in self._units),
            troubles=tuple(self._library.troubles),
        )

    def _reading(self, unit: Unit, uuid: str | None, pci: str | None) -> GpuReading:
        try:
            memory = self._library.memory(unit.handle)
        except self._library.pynvml.NVMLError as error:
            trouble = f"does not answer ({error})"
            return GpuReading(uuid=uuid, pci=pci, name=unit.name, integrated=False, trouble=trouble)
        return GpuReading(
            uuid=uuid,
            pci=pci,
            name=unit.name,
            integrated=memory is None,
            used_bytes=None if memory is None else int(memory.used),
            total_bytes=None if memory is None else int(memory.total),
            violations=self._violations(unit),
            processes=self._processes(unit),
        )

    def _violations(self, unit: Unit) -> Violations:
        pynvml = self._library.pynvml
        return Violations(
            thermal_ns=self._below_clocks_ns(unit, pynvml.NVML_PERF_POLICY_THERMAL),
            power_ns=self._below_clocks_ns(unit, pynvml.NVML_PERF_POLICY_POWER),
            board_ns=self._below_clocks_ns(unit, pynvml.NVML_PERF_POLICY_BOARD_LIMIT),
            reliability_ns=self._below_clocks_ns(unit, pynvml.NVML_PERF_POLICY_RELIABILITY),
        )

    def _below_clocks_ns(self, unit: Unit, policy: int) -> int | None:
        """An instance has no clocks of its own: the whole GPU is asked."""
        status = self._library.optional(
            self._library.pynvml.nvmlDeviceGetViolationStatus, unit.parent, policy
        )
        if status is None or int(status.violationTime) == _NOT_AVAILABLE:
            return None
        return int(status.violationTime)

    def _processes(self, unit: Unit) -> tuple[GpuProcess, ...] | None:
        pynvml = self._library.pynvml
        listed = self._library.optional(pynvml.nvmlDeviceGetComputeRunningProcesses, unit.handle)
        return None if listed is None else tuple(self._process(each) for each in listed)

    def _process(self, listed: Any) -> GpuProcess:
        name = self._library.optional(
            self._library.pynvml.nvmlSystemGetProcessName, int(listed.pid)
        )
        used = listed.usedGpuMemory
        return GpuProcess(
            pid=int(listed.pid),
            used_bytes=None if used is None or int(used) == _NOT_AVAILABLE else int(used),
            name=str(name) if name else None,
        )


if __name__ == "__main__":
    main()
