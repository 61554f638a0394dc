"""How much main memory is there, and how much of it may this process use?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pytest_llmperf.hardware import cgroup, files
from pytest_llmperf.hardware.facts import Memory

_NO_LIMIT = 2**60
"""cgroup v1 writes "no limit" as the largest page-aligned integer, near 2**63."""


def from_linux(root: Path) -> tuple[Memory, tuple[str, ...]]:
    """Main memory from /proc/meminfo and the control groups, and findings."""
    meminfo = files.pairs(root / "proc/meminfo")
    findings: list[str] = []
    total = meminfo.get("MemTotal", 0)
    available = meminfo.get("MemAvailable")
    if not total:
        findings.append("memory is unknown: /proc/meminfo cannot be read; is /proc mounted?")
    if available is None:
        available = meminfo.get("MemFree", 0)
        if total:
            findings.append("/proc/meminfo has no MemAvailable: counting free memory only")
    limits = list(_limits(root))
    usable = min([available, *(limit - used for limit, used in limits)])
    memory = Memory(
        total_bytes=total,
        available_bytes=available,
        cgroup_limit_bytes=min((limit for limit, _ in limits), default=None),
        usable_bytes=max(0, usable),
    )
    return memory, tuple(findings)


def without_groups(total_bytes: int, available_bytes: int) -> Memory:
    """Main memory of a system that has no control groups."""
    return Memory(
        total_bytes=total_bytes,
        available_bytes=available_bytes,
        cgroup_limit_bytes=None,
        usable_bytes=available_bytes,
    )


def address_space_limit_bytes() -> int | None:
    """What this process, and those that it starts, may map at all (``ulimit -v``); None: all."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, usage) in bytes of every group that limits the process."""
    for group in cgroup.v2_groups(root):
        limit = files.integer(group / "memory.max")
        if limit is not None:
            yield limit, _usage(group, "memory.current", ("inactive_file", "active_file"))
    for group in cgroup.v1_groups(root, "memory"):
        limit = files.integer(group / "memory.limit_in_bytes")
        if limit is not None and limit < _NO_LIMIT:
            cached = ("total_inactive_file", "total_active_file")
            yield limit, _usage(group, "memory.usage_in_bytes", cached)


def _usage(group: Path, file_name: str, cached: tuple[str, str]) -> int:
    """What the group holds and cannot drop.

    The kernel counts page cache as usage: after one reading of a model file a group would look
    full of memory that the next allocation simply takes back.
    """
    usage = files.integer(group / file_name) or 0
    stat = files.pairs(group / "memory.stat")
    return max(0, usage - sum(stat.get(name, 0) for name in cached))
