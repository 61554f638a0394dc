"""Which processor is this, and how much of it may this process use?

Sources: proc(5) for /proc/cpuinfo, the kernel's cgroup-v2.rst (``cpu.max``) and sched-bwc.rst
(``cpu.cfs_quota_us``), sysfs-devices-system-cpu for caches, and Arm's MIDR_EL1 for part numbers.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Set
from pathlib import Path

from pytest_llmperf.hardware import cgroup, files, isa
from pytest_llmperf.hardware.facts import Cpu

_X86_VENDORS = {
    "AuthenticAMD": "amd",
    "GenuineIntel": "intel",
    "HygonGenuine": "hygon",
    "CentaurHauls": "zhaoxin",
    "Shanghai": "zhaoxin",
}
_ARM_VENDORS = {
    0x41: "arm",
    0x46: "fujitsu",
    0x48: "hisilicon",
    0x4E: "nvidia",
    0x50: "apm",
    0x51: "qualcomm",
    0x61: "apple",
    0xC0: "ampere",
}
_ARM_PARTS = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x46, 0x001): "A64FX",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
}
_LEVELS = {("1", "Data"): 1, ("2", "Unified"): 2, ("3", "Unified"): 3}

Block = dict[str, str]
"""One processor's paragraph of /proc/cpuinfo."""


def from_linux(root: Path, affinity: Set[int] | None) -> tuple[Cpu, tuple[str, ...]]:
    """The processor from /proc and /sys, and findings.

    ``affinity`` holds the processors that the scheduler may use for us; None means all.
    """
    blocks = _blocks(root)
    logical = max(1, len(blocks))
    allowed = logical if affinity is None else len(affinity)
    quota = _quota(root)
    features = _features(blocks)
    vendor, family, model_number, model_name = _identity(blocks)
    l1d, l2, l3 = _cache_bytes(root, affinity)
    cpu = Cpu(
        vendor=vendor,
        family=family,
        model_number=model_number,
        model_name=model_name,
        logical_cores=logical,
        allowed_cores=allowed,
        usable_cores=_whole_cores(allowed, quota),
        cpu_quota=quota,
        isa=isa.tier(features),
        features=features,
        l1d_cache_bytes=l1d,
        l2_cache_bytes=l2,
        l3_cache_bytes=l3,
    )
    if blocks:
        return cpu, ()
    return cpu, ("the processor is unknown: /proc/cpuinfo cannot be read; is /proc mounted?",)


def from_windows(processor: str, logical_cores: int, allowed_cores: int) -> Cpu:
    """The processor from ``platform.processor()``, which names family, model and vendor.

    For example ``Intel64 Family 6 Model 154 Stepping 3, GenuineIntel``. Flags and caches are
    not told without a compiled helper: they stay unknown.
    """
    stated = re.search(r"Family (\d+) Model (\d+).*?, *(\w+)", processor)
    return Cpu(
        vendor=_X86_VENDORS.get(stated[3], stated[3].lower()) if stated else isa.UNKNOWN,
        family=stated[1] if stated else None,
        model_number=stated[2] if stated else None,
        model_name=processor or None,
        logical_cores=logical_cores,
        allowed_cores=allowed_cores,
        usable_cores=_whole_cores(allowed_cores, None),
        cpu_quota=None,
        isa=isa.UNKNOWN,
        features=(),
        l1d_cache_bytes=None,
        l2_cache_bytes=None,
        l3_cache_bytes=None,
    )


def usable_cores(root: Path = Path("/")) -> int:
    """How many threads make sense for this process: affinity ∩ control group quota, at least 1."""
    allowed = affinity()
    return _whole_cores(len(allowed) if allowed else os.cpu_count() or 1, _quota(root))


def affinity() -> Set[int] | None:
    """Logical cores that the scheduler may use for us; None where there is no such limit."""
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return None


def _whole_cores(allowed: int, quota: float | None) -> int:
    return max(1, allowed if quota is None else min(allowed, math.floor(quota)))


def _blocks(root: Path) -> list[Block]:
    """Paragraphs that describe a processor (some kernels end with one about the board)."""
    blocks: list[Block] = []
    for paragraph in (files.text(root / "proc/cpuinfo") or "").split("\n\n"):
        block: Block = {}
        for line in paragraph.splitlines():
            name, _, value = line.partition(":")
            block.setdefault(name.strip(), value.strip())
        if "processor" in block:
            blocks.append(block)
    return blocks


def _identity(blocks: list[Block]) -> tuple[str, str | None, str | None, str | None]:
    """Vendor, family, model number, model name."""
    first = blocks[0] if blocks else {}
    if "CPU implementer" in first:
        return _arm_identity(blocks)
    vendor_id = first.get("vendor_id", "")
    return (
        _X86_VENDORS.get(vendor_id, vendor_id.strip().lower() or isa.UNKNOWN),
        first.get("cpu family"),
        first.get("model"),
        first.get("model name"),
    )


def _arm_identity(blocks: list[Block]) -> tuple[str, str | None, str | None, str | None]:
    """As :func:`_identity`; a mixed cluster names each kind of core once, in a fixed order."""
    implementer = files.number(blocks[0]["CPU implementer"])
    parts = sorted({block["CPU part"] for block in blocks if "CPU part" in block})
    numbers = [files.number(part) for part in parts]
    known = [_ARM_PARTS.get((implementer or 0, number or 0)) for number in numbers]
    names = [name for name in known if name]
    return (
        _ARM_VENDORS.get(implementer or 0, f"implementer-{blocks[0]['CPU implementer']}"),
        blocks[0].get("CPU architecture"),
        "+".join(parts) or None,
        " + ".join(names) if names and len(names) == len(parts) else None,
    )


def _features(blocks: list[Block]) -> tuple[str, ...]:
    """Relevant flags that *every* processor has: a thread may run on any of them."""
    per_processor = [set(block.get("flags", block.get("Features", "")).split()) for block in blocks]
    common = set.intersection(*per_processor) if per_processor else set()
    if "neon" in common:  # the 32-bit name of the same instructions
        common.add("asimd")
    return tuple(sorted(common & isa.FEATURES))


def _quota(root: Path) -> float | None:
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    """Every quota above the process, in cores."""
    for group in cgroup.v2_groups(root):
        words = (files.text(group / "cpu.max") or "").split()
        if len(words) == 2:
            yield from _cores(files.number(words[0]), files.number(words[1]))
    for group in cgroup.v1_groups(root, "cpu"):
        quota = files.integer(group / "cpu.cfs_quota_us")
        yield from _cores(quota, files.integer(group / "cpu.cfs_period_us"))


def _cores(quota_us: int | None, period_us: int | None) -> Iterator[float]:
    """No quota is written ``max`` (v2) or −1 (v1)."""
    if quota_us and period_us and quota_us > 0 and period_us > 0:
        yield quota_us / period_us


def _cache_bytes(
    root: Path, affinity: Set[int] | None
) -> tuple[int | None, int | None, int | None]:
    """Totals of L1 data, L2 and L3 over the distinct caches that the allowed cores reach."""
    instances: dict[tuple[int, str], int] = {}
    for index in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        processor = int(index.parent.parent.name.removeprefix("cpu"))
        if affinity is not None and processor not in affinity:
            continue
        kind = (files.text(index / "level") or "", files.text(index / "type") or "")
        size = files.size_bytes(index / "size")
        if kind in _LEVELS and size is not None:
            shared = files.text(index / "shared_cpu_list") or str(processor)
            instances[_LEVELS[kind], shared] = size
    totals: dict[int, int] = {}
    for (level, _), size in instances.items():
        totals[level] = totals.get(level, 0) + size
    return totals.get(1), totals.get(2), totals.get(3)
