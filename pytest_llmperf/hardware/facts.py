"""Which facts about a machine does this package speak of?

Everything here is frozen and serializes to JSON with msgspec. ``None`` means *unknown*, never
zero: what could not be read is not made up.
"""

from __future__ import annotations

from typing import Literal

import msgspec

AcceleratorKind = Literal["cuda", "rocm", "xpu", "metal"]

ROCM_APUS = frozenset({"gfx942", "gfx1150", "gfx1151"})
"""Integrated AMD GPUs in ROCm's list of supported GPUs. Other integrated ones drive a display."""


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """The processor, and how much of it this process may use."""

    vendor: str
    """Lower case: ``amd``, ``intel``, ``arm``, ``apple`` …; ``unknown`` if nothing names it."""
    family: str | None
    """As the processor states it: x86 ``cpu family``, ARM ``CPU architecture``."""
    model_number: str | None
    """x86 ``model``; ARM part numbers such as ``0xd42``, joined by ``+`` on mixed clusters."""
    model_name: str | None
    logical_cores: int
    allowed_cores: int
    """Logical cores in the scheduler's affinity for this process."""
    usable_cores: int
    """Whole cores in affinity ∩ control group quota, at least 1: how many threads make sense."""
    cpu_quota: float | None
    """The tightest control group quota, in cores; may be a fraction. None: no quota."""
    isa: str
    """Highest tier of :mod:`pytest_llmperf.hardware.isa` that the processor offers."""
    features: tuple[str, ...]
    """The processor's flags that matter to inference engines, sorted."""
    l1d_cache_bytes: int | None
    """Total over the distinct caches that the allowed cores reach; so for all three levels."""
    l2_cache_bytes: int | None
    l3_cache_bytes: int | None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Main memory, and how much of it this process may use."""

    total_bytes: int
    available_bytes: int
    """What the kernel could give out without swapping."""
    cgroup_limit_bytes: int | None
    """The tightest limit of the process's control groups. None: no limit."""
    usable_bytes: int
    """min(available, limit − usage) now; page cache that can be dropped is not usage."""

    @property
    def capacity_bytes(self) -> int:
        """What this process could have on an idle machine: the total, or the limit if smaller."""
        if self.cgroup_limit_bytes is None:
            return self.total_bytes
        return min(self.total_bytes, self.cgroup_limit_bytes)


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU, or one MIG instance of a GPU that is divided."""

    kind: AcceleratorKind
    vendor: str
    name: str
    """Without the vendor and trademark signs: ``RTX 4060 Ti``."""
    integrated: bool
    """One pool with RAM: ``memory_bytes`` is None then and must not be added to RAM."""
    memory_bytes: int | None = None
    uuid: str | None = None
    compute_capability: str | None = None
    """CUDA: ``8.9``. ROCm: the target, ``gfx1100``."""
    mig: str | None = None
    """Profile of the MIG instance, such as ``1g.10gb``."""
    mig_name: str | None = None
    """Its older name, ``MIG-GPU-…/1/0``: the card, the GPU instance, the compute instance."""
    driver: str | None = None
    pci: str | None = None

    @property
    def runs_models(self) -> bool:
        """Whether engines run models here by default.

        A processor's display GPU (Intel, most of AMD's) does not count: a laptop that has only
        such a one is measured on its CPU.
        """
        if not self.integrated or self.kind in ("cuda", "metal"):
            return True
        return self.kind == "rocm" and self.compute_capability in ROCM_APUS


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """One machine as this process sees it."""

    system: str
    """The operating system in words, such as ``Debian GNU/Linux 12 (bookworm)``."""
    os_family: str
    """``linux``, ``macos`` or ``windows``."""
    arch: str
    """``x86_64``, ``aarch64`` … One name per architecture on every system."""
    kernel: str
    cpu: Cpu
    memory: Memory
    accelerators: tuple[Accelerator, ...]
    device: str | None
    """Identity of a known board, such as ``jetson-orin-nano``."""
    findings: tuple[str, ...]
    """Named troubles, each with what to do about it."""
    fingerprint: str
    """Stable name of what makes two numbers comparable; of the GPUs if models run there."""
    cpu_fingerprint: str
    """The same for a run that uses the CPU only; equal to ``fingerprint`` without a GPU."""

    def fingerprint_of(self, device: str) -> str:
        """That of a run whose engine computed on ``device``, as engines name it."""
        return self.cpu_fingerprint if device == "cpu" else self.fingerprint

    @property
    def gpus(self) -> tuple[Accelerator, ...]:
        """The accelerators on which engines run models by default."""
        return tuple(each for each in self.accelerators if each.runs_models)
