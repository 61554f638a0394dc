"""Which machines are comparable?

A fingerprint holds the stable facts that make two numbers comparable, as text that is also a
folder's name: ``linux-x86_64-2x-nvidia-rtx-4060-ti-16g-cc8.9``. Clock rates, host names, drivers
and library versions are not in it: what changes under a machine's feet is to be gated, not to be
mistaken for another machine.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from pytest_llmperf.hardware import names
from pytest_llmperf.hardware.facts import Accelerator, Cpu

_GIB = 2**30
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def of_cpu(os_family: str, arch: str, cpu: Cpu) -> str:
    """For runs on the CPU, such as ``linux-x86_64-amd-26-2-2c-avx512_vnni``.

    Cores are the usable ones; a fractional quota is kept as it is, for 1.2 and 1.8 differ.
    """
    cores = min(cpu.allowed_cores, cpu.cpu_quota or math.inf)
    return "-".join((os_family, arch, _cpu_identity(cpu), f"{cores:.3g}c", cpu.isa))


def of_accelerators(
    os_family: str, arch: str, cpu: Cpu, ram_bytes: int, accelerators: Sequence[Accelerator]
) -> str:
    """For runs on GPUs: each kind with its count, in a fixed order."""
    counted = Counter(_describe(each, cpu, ram_bytes) for each in accelerators)
    parts = sorted(f"{count}x-{text}" for text, count in counted.items())
    return "-".join((os_family, arch, *parts))


def of_tag(tag: str) -> str:
    """The user's own name for the machine; raises ValueError if it cannot be a folder's name."""
    if not _TAG.fullmatch(tag) or tag.endswith("."):
        raise ValueError(
            f"machine tag {tag!r}: use 1 to 80 letters, digits, dots, hyphens and underscores, "
            "beginning with a letter or digit and not ending with a dot"
        )
    return tag


def _cpu_identity(cpu: Cpu) -> str:
    """Vendor, family, model; ARM's model is its part, Apple's is its name."""
    if cpu.vendor in ("amd", "intel", "hygon", "zhaoxin"):
        identity = f"{cpu.vendor}-{cpu.family or 'x'}-{cpu.model_number or 'x'}"
    else:
        model = names.normalized(cpu.model_name or cpu.model_number or "unknown")
        identity = f"{cpu.vendor}-{model}"
    return names.slug(identity)


def _describe(accelerator: Accelerator, cpu: Cpu, ram_bytes: int) -> str:
    parts = [accelerator.vendor, names.slug(accelerator.name)]
    if accelerator.mig:
        parts.append(f"mig-{names.slug(accelerator.mig)}")
    if accelerator.integrated:
        parts.append(f"{_pool_gib(ram_bytes):g}g-unified")
    elif accelerator.memory_bytes is not None:
        parts.append(f"{accelerator.memory_bytes / _GIB:.0f}g")
    if accelerator.kind == "metal":  # macOS tells the GPU's cores nowhere; the CPU's go with them
        parts.append(f"{cpu.logical_cores}c")
    if accelerator.compute_capability:
        prefix = "cc" if accelerator.kind == "cuda" else ""
        parts.append(f"{prefix}{accelerator.compute_capability}")
    return "-".join(parts)


def _pool_gib(ram_bytes: int) -> float:
    """The size of the memory chips in GiB.

    Linux shows what the firmware left of it, a little less after each update: rounded up to the
    next quarter of a power of two (7.4 → 8, 61.4 → 64). macOS states whole sizes.
    """
    gib = ram_bytes / _GIB
    if gib <= 0 or math.isclose(gib, round(gib), abs_tol=0.01):
        return round(gib)
    step = 2.0 ** (math.floor(math.log2(gib)) - 2)
    return math.ceil(gib / step) * step
