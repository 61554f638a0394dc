"""What does NVIDIA's driver library say? The child process that asks once.

Run as ``python -m pytest_llmperf.hardware.nvml``; prints one
:class:`~pytest_llmperf.hardware.nvidia.Answer` as a line of JSON. Whatever the library itself
prints goes to stderr. :mod:`pytest_llmperf.hardware.nvml_watch` asks again and again; no other
process loads the library. Source: NVIDIA's NVML API reference (nvml.h).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from pytest_llmperf import child
from pytest_llmperf.hardware.nvidia import Answer, Device

_NOT_SUPPORTED = 3
_FUNCTION_NOT_FOUND = 13
_ARGUMENT_VERSION_MISMATCH = 25
_UNCORRECTED = 1
_SINCE_THE_DRIVER_CAME_UP = 0
"""nvmlMemoryErrorType_t and nvmlEccCounterType_t in nvml.h."""


def main() -> None:
    """Ask, and print the answer on what was stdout."""
    child.die_with_parent()
    answer_file = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer_file, "wb") as stream:
        stream.write(msgspec.json.encode(ask()) + b"\n")


def ask() -> Answer:
    """Everything the library tells; its refusal is an answer too."""
    try:
        import pynvml
    except ImportError as error:
        return Answer(error_code=0, error_text=f"nvidia-ml-py cannot be imported: {error}")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Answer(error_code=error_code(error), error_text=str(error))
    library = Library(pynvml)
    try:
        devices = tuple(library.devices())
        driver = library.optional(pynvml.nvmlSystemGetDriverVersion)
    except pynvml.NVMLError as error:
        return Answer(error_code=error_code(error), error_text=str(error))
    finally:
        library.optional(pynvml.nvmlShutdown)
    return Answer(driver=driver, devices=devices, troubles=tuple(library.troubles))


def _no_function(*_: object) -> None:
    """Stand in for what an older version of the package lacks."""


def error_code(error: Exception) -> int:
    """The number in nvml.h of an error that the library raised; 0 if it has none."""
    return int(getattr(error, "value", 0))


@dataclass(frozen=True)
class Unit:
    """One GPU or MIG instance, as the library knows it."""

    index: int
    """The GPU's place in the library's own order, which is not CUDA's."""
    handle: Any
    parent: Any
    """Answers what an instance does not; of an undivided GPU the handle itself."""
    name: str
    mig: str | None


class Library:
    """The initialized library, and the troubles met with single devices."""

    def __init__(self, pynvml: Any) -> None:
        self.pynvml = pynvml
        self.troubles: list[str] = []

    def optional(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The function's value; None if the library or the device does not offer it."""
        try:
            return function(*arguments)
        except self.pynvml.NVMLError:
            return None

    def units(self) -> Iterator[Unit]:
        """Every GPU, and in the place of a divided one its MIG instances."""
        for index in range(self.pynvml.nvmlDeviceGetCount()):
            try:
                handle = self.pynvml.nvmlDeviceGetHandleByIndex(index)
                name = str(self.pynvml.nvmlDeviceGetName(handle))
                if self._is_divided(handle):
                    found = list(self._instances(index, handle, name))
                else:
                    found = [Unit(index, handle, handle, name, None)]
            except self.pynvml.NVMLError as error:
                self._no_answer(index, error)
            else:
                yield from found

    def devices(self) -> Iterator[Device]:
        """What the units are."""
        for unit in self.units():
            try:
                yield self._device(unit)
                self._look_for_errors(unit)
            except self.pynvml.NVMLError as error:
                self._no_answer(unit.index, error)

    def _no_answer(self, index: int, error: Exception) -> None:
        self.troubles.append(
            f"NVIDIA GPU {index} does not answer ({error}): check 'nvidia-smi' and 'dmesg'"
        )

    def _is_divided(self, handle: Any) -> bool:
        mode = self.optional(self.pynvml.nvmlDeviceGetMigMode, handle)
        return mode is not None and mode[0] == 1

    def _instances(self, index: int, parent: Any, parent_name: str) -> Iterator[Unit]:
        """MIG instances; their indexes have gaps."""
        found = False
        for slot in range(self.pynvml.nvmlDeviceGetMaxMigDeviceCount(parent)):
            handle = self.optional(self.pynvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, slot)
            if handle is not None:
                found = True
                yield Unit(index, handle, parent, parent_name, self._profile(handle))
        if not found:
            self.troubles.append(
                f"NVIDIA GPU {index} ({parent_name}) is in MIG mode but has no instance: create "
                f"one ('nvidia-smi mig -cgi … -C') or leave the mode "
                f"('nvidia-smi -i {index} -mig 0')"
            )

    def _profile(self, handle: Any) -> str:
        """``1g.10gb``: stated in the instance's name, else made of its slices and memory."""
        name = str(self.optional(self.pynvml.nvmlDeviceGetName, handle) or "")
        stated = re.search(r"MIG (\S+)", name)
        if stated:
            return stated[1]
        about = self.optional(self.pynvml.nvmlDeviceGetAttributes, handle)
        if about is None:
            return "unknown"
        return f"{about.gpuInstanceSliceCount}g.{round(about.memorySizeMB / 1024)}gb"

    def _device(self, unit: Unit) -> Device:
        pynvml = self.pynvml
        memory = self.memory(unit.handle)
        capability = self.optional(pynvml.nvmlDeviceGetCudaComputeCapability, unit.parent)
        return Device(
            name=unit.name,
            integrated=memory is None,
            memory_bytes=None if memory is None else int(memory.total),
            uuid=self.uuid(unit),
            compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
            mig=unit.mig,
            pci=self.pci(unit),
            mig_name=self._mig_name(unit),
        )

    def _mig_name(self, unit: Unit) -> str | None:
        """``MIG-GPU-…/1/0``: what drivers before R470 called an instance, and newer ones take."""
        if unit.mig is None:
            return None
        pynvml = self.pynvml
        parts = (
            self.optional(pynvml.nvmlDeviceGetUUID, unit.parent),
            self.optional(pynvml.nvmlDeviceGetGpuInstanceId, unit.handle),
            self.optional(pynvml.nvmlDeviceGetComputeInstanceId, unit.handle),
        )
        return None if None in parts else "MIG-{}/{}/{}".format(*parts)

    def _look_for_errors(self, unit: Unit) -> None:
        """Broken memory, as far as the card counts it: consumer cards do not."""
        pynvml = self.pynvml
        broken = self.optional(
            getattr(pynvml, "nvmlDeviceGetTotalEccErrors", _no_function),
            unit.parent,
            _UNCORRECTED,
            _SINCE_THE_DRIVER_CAME_UP,
        )
        remapped = self.optional(
            getattr(pynvml, "nvmlDeviceGetRemappedRows", _no_function), unit.parent
        )
        _, _, pending, failed = remapped or (0, 0, 0, 0)
        for count, what in (
            (broken, f"{broken} memory errors that could not be corrected"),
            (pending, "broken rows of memory that wait to be replaced"),
            (failed, "broken rows of memory that could not be replaced"),
        ):
            if count:
                self.troubles.append(
                    f"NVIDIA GPU {unit.index} ({unit.name}) has {what}: reset it or reboot, and "
                    "read 'nvidia-smi -q -d ECC,ROW_REMAPPER'"
                )

    def uuid(self, unit: Unit) -> str | None:
        """``GPU-…`` or ``MIG-…``; None if the library does not tell."""
        uuid = self.optional(self.pynvml.nvmlDeviceGetUUID, unit.handle)
        return None if uuid is None else str(uuid)

    def pci(self, unit: Unit) -> str | None:
        """``00000000:01:00.0``, hexadecimal; None if the library does not tell."""
        pci = self.optional(self.pynvml.nvmlDeviceGetPciInfo, unit.parent)
        return None if pci is None else str(pci.busId)

    def memory(self, handle: Any) -> Any:
        """``total`` and ``used`` in bytes; None: the GPU shares RAM, which is "not supported".

        Version 2 tells the driver's reserve apart from use; drivers before 510 lack it.
        """
        pynvml = self.pynvml
        try:
            return pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
        except pynvml.NVMLError as error:
            if error_code(error) not in (
                _NOT_SUPPORTED,
                _FUNCTION_NOT_FOUND,
                _ARGUMENT_VERSION_MISMATCH,
            ):
                raise
        try:
            return pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError as error:
            if error_code(error) != _NOT_SUPPORTED:
                raise
        return None


if __name__ == "__main__":
    main()
