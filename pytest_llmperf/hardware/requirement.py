"""Does this machine have what a test requires?"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pytest_llmperf.hardware import isa
from pytest_llmperf.hardware.facts import Accelerator, Hardware

_GIB = 2**30
_CAPABILITY = re.compile(r"\d+\.\d+")

LABEL_TOLERANCE = 0.08
"""A "24 GB" card shows 22.5 GiB with ECC on, an "8 GB" board 7.4 GiB beside its firmware: what
is up to this share below the number meets it. Whether a model fits is decided from its predicted
footprint, not from here."""


class BadRequirement(ValueError):
    """A keyword or value that means nothing; the message names it and says what would."""


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What a test needs of its machine. Raises BadRequirement for values that mean nothing."""

    gpu: bool = False
    """Some GPU on which engines run models."""
    gpus: int | None = None
    vram_gb: float | None = None
    """GiB on one GPU; on one that shares RAM, GiB of that pool."""
    ram_gb: float | None = None
    """GiB of RAM, or of the container's limit."""
    compute_capability: str | None = None
    """Lowest CUDA compute capability, such as ``8.0``."""
    cpu: str | None = None
    """A tier or flag of :mod:`pytest_llmperf.hardware.isa`, such as ``avx512``."""
    backend: str | None = None
    """Judged where backends are known, not here."""
    device: str | None = None
    """Board, by its first words: ``jetson`` and ``jetson-orin`` match ``jetson-orin-nano``."""

    @property
    def wants_gpu(self) -> bool:
        """Whether anything is asked of a GPU."""
        return bool(self.gpu or self.gpus or self.compute_capability or self.vram_gb)

    def __post_init__(self) -> None:
        if self.gpus is not None and self.gpus < 1:
            raise BadRequirement(f"gpus={self.gpus}: must be at least 1")
        for name, value in (("vram_gb", self.vram_gb), ("ram_gb", self.ram_gb)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise BadRequirement(f"{name}={value}: must be greater than 0")
        capability = self.compute_capability
        if capability is not None and not _CAPABILITY.fullmatch(capability):
            raise BadRequirement(f"compute_capability={capability!r}: write it as '8.0'")
        if self.cpu is not None:
            try:
                isa.check(self.cpu)
            except ValueError as error:
                raise BadRequirement(f"cpu={self.cpu!r}: {error}") from None


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "gpu": ((bool,), "True or False"),
    "gpus": ((int,), "a whole number"),
    "vram_gb": ((int, float), "a number of GiB"),
    "ram_gb": ((int, float), "a number of GiB"),
    "compute_capability": ((str,), "a text such as '8.0'"),
    "cpu": ((str,), "a text such as 'avx512'"),
    "backend": ((str,), "a text such as 'llama-cpp'"),
    "device": ((str,), "a text such as 'jetson'"),
}


def read_requirement(given: Mapping[str, object]) -> Requirement:
    """The requirement that a marker's keywords state; BadRequirement if one means nothing."""
    for name, value in given.items():
        if name not in _TYPES:
            near = difflib.get_close_matches(name, _TYPES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise BadRequirement(f"unknown keyword {name!r}: {hint}known are {', '.join(_TYPES)}")
        types, words = _TYPES[name]
        # A bool is an int to Python, but gpus=True is a mistake for gpu=True.
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise BadRequirement(f"{name}={value!r}: must be {words}")
    checked: dict[str, Any] = dict(given)
    return Requirement(**checked)


def unmet(requirement: Requirement, hardware: Hardware) -> str | None:
    """One line with what is needed and what is there, or None if all is met.

    ``backend`` is not looked at.
    """
    return "; ".join(_unmet(requirement, hardware)) or None


def _unmet(requirement: Requirement, hardware: Hardware) -> Iterator[str]:
    lacking = _gpu_trouble(requirement, hardware)
    if lacking:
        yield lacking
    ram_gb = requirement.ram_gb
    if ram_gb is not None and not _holds(hardware.memory.capacity_bytes, ram_gb):
        limited = hardware.memory.capacity_bytes < hardware.memory.total_bytes
        why = " (limit of the control group)" if limited else ""
        yield f"needs {ram_gb:.1f} GB RAM, has {_gb(hardware.memory.capacity_bytes)} GB{why}"
    cpu = requirement.cpu
    if cpu is not None and not isa.offers(hardware.cpu.features, cpu):
        model = hardware.cpu.model_name or hardware.cpu.vendor
        yield f"needs a CPU with {cpu}, has {hardware.cpu.isa} ({model})"
    device = requirement.device
    if device is not None and not f"{hardware.device or ''}-".startswith(f"{device.lower()}-"):
        yield f"needs device {device}, is {hardware.device or 'no known board'}"


def _gpu_trouble(requirement: Requirement, hardware: Hardware) -> str | None:
    """Why too few GPUs meet all that is required of one GPU."""
    capability, vram_gb = requirement.compute_capability, requirement.vram_gb
    if not requirement.wants_gpu:
        return None
    count = requirement.gpus or 1
    good: Sequence[Accelerator] = hardware.gpus
    if len(good) < count:
        need = _number(count) if requirement.gpus else "a GPU"
        return f"needs {_with(need, vram_gb, capability)}, has {_present(hardware)}"
    if capability is not None:
        good = [gpu for gpu in good if _is_capable(gpu, capability)]
        if len(good) < count:
            have = ", ".join(_capability(gpu) for gpu in hardware.gpus)
            return f"needs {_number(count)} with compute capability {capability}, has {have}"
    if vram_gb is not None:
        fitting = [gpu for gpu in good if _holds(_pool_bytes(gpu, hardware), vram_gb)]
        if len(fitting) < count:
            where = "one GPU" if count == 1 else f"each of {count} GPUs"
            have = ", ".join(_vram(gpu, hardware) for gpu in good)
            return f"needs {vram_gb:.1f} GB VRAM on {where}, has {have}"
    return None


def _with(need: str, vram_gb: float | None, capability: str | None) -> str:
    wants = []
    if vram_gb is not None:
        wants.append(f"{vram_gb:.1f} GB VRAM")
    if capability is not None:
        wants.append(f"compute capability {capability}")
    return f"{need} with {' and '.join(wants)}" if wants else need


def _present(hardware: Hardware) -> str:
    """The GPUs, or why there is none: a trouble by its name beats "none"."""
    if hardware.gpus:
        return ", ".join(gpu.name for gpu in hardware.gpus)
    troubles = [finding for finding in hardware.findings if "GPU" in finding or "NV" in finding]
    display = ", ".join(f"{each.vendor} {each.name}" for each in hardware.accelerators)
    reasons = ([f"only the display GPU {display}"] if display else []) + troubles
    return f"none ({'; '.join(reasons)})" if reasons else "none"


def _number(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _is_capable(gpu: Accelerator, capability: str) -> bool:
    return (
        gpu.kind == "cuda"
        and gpu.compute_capability is not None
        and _parts(gpu.compute_capability) >= _parts(capability)
    )


def _parts(capability: str) -> tuple[int, ...]:
    """Numbers to compare: as text, 10.0 would come before 8.9."""
    return tuple(int(part) for part in capability.split("."))


def _capability(gpu: Accelerator) -> str:
    known = gpu.compute_capability or "no known one"
    return f"{known} ({gpu.name})" if gpu.kind == "cuda" else f"no CUDA GPU ({gpu.name})"


def _pool_bytes(gpu: Accelerator, hardware: Hardware) -> int:
    """Memory in which a model can lie for this GPU; 0 if it is unknown."""
    return hardware.memory.capacity_bytes if gpu.integrated else gpu.memory_bytes or 0


def _vram(gpu: Accelerator, hardware: Hardware) -> str:
    pool_bytes = _pool_bytes(gpu, hardware)
    if not pool_bytes:
        return f"an unknown amount ({gpu.name})"
    shared = ", shared with the CPU" if gpu.integrated else ""
    return f"{_gb(pool_bytes)} GB ({gpu.name}{shared})"


def _holds(have_bytes: int, need_gb: float) -> bool:
    return have_bytes >= need_gb * _GIB * (1 - LABEL_TOLERANCE)


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f}"
