"""In which files does the kernel count what can disturb a measurement, and how are they read?

All times become nanoseconds. Sources: proc_stat(5), the kernel's accounting/psi.rst, cgroup-v2.rst
and sched-bwc.rst (``cpu.stat``), admin-guide/iostats.rst (``diskstats``), and
admin-guide/abi-testing (sysfs-devices-system-cpu, ``thermal_throttle``) with
arch/x86's therm_throt.c for when those counters move.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from pytest_llmperf.hardware import cgroup, files

_SECTOR_BYTES = 512
"""The unit of /proc/diskstats, whatever the disk's own sectors are."""
_NOT_STORAGE = ("loop", "ram", "zram")
_PRESSURE_LINES = {
    "cpu": ("some",),  # "full" means nothing for the cores of a whole system
    "io": ("some", "full"),
    "memory": ("some", "full"),
}


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is not known."""

    why: str
    unreadable: bool = False
    """Every Linux has it, and yet it could not be read: worth telling."""


@dataclass(frozen=True)
class CounterFile:
    """One file and the counters in it. ``parse`` raises ValueError for what it does not expect."""

    name: str
    """First part of the names of its counters."""
    path: Path
    parse: Callable[[str], dict[str, int]]

    def read(self) -> dict[str, int] | Unknown:
        """The counters, by the rest of their names."""
        try:
            return self.parse(self.path.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            # Pressure that was switched off for a group keeps its file (cgroup-v2.rst).
            switched_off = error.errno == errno.EOPNOTSUPP
            return Unknown(why=f"{self.path}: {error.strerror}", unreadable=not switched_off)
        except ValueError as error:
            return Unknown(why=f"{self.path}: {error}", unreadable=True)


def find(
    root: Path, affinity: Set[int] | None, tick_ns: int
) -> tuple[tuple[CounterFile, ...], dict[str, Unknown]]:
    """The files that this machine has, and why it lacks others.

    ``affinity``: the cores whose time counts; None: all. ``tick_ns``: unit of /proc/stat.
    """
    present = [
        CounterFile("cores", root / "proc/stat", partial(core_times, cores=affinity, unit=tick_ns))
    ]
    absent: dict[str, Unknown] = {}
    for name, finder in _FINDERS.items():
        found = finder(root, affinity)
        if isinstance(found, Unknown):
            absent[name] = found
        else:
            present += found
    return tuple(present), absent


def core_times(text: str, cores: Set[int] | None, unit: int) -> dict[str, int]:
    """Sums over ``cores``: ``busy_ns``, ``steal_ns``, and ``all_ns`` with the idle time.

    Time as the host of guests is part of the user time already (proc_stat(5)). Waiting for storage
    is not busy; it may even fall.
    """
    busy = steal = total = 0
    missing = set(cores or ())
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if not name.startswith("cpu"):
            break  # the cores come first, thousands of interrupt counters after them
        if name == "cpu" or (cores is not None and int(name[3:]) not in cores):
            continue
        missing.discard(int(name[3:]))
        ticks = [int(word) for word in rest.split()[:8]]
        if len(ticks) < 8:
            raise ValueError(f"{name} has {len(ticks)} columns, not 8")
        user, nice, system, idle, iowait, irq, softirq, stolen = ticks
        here = user + nice + system + irq + softirq
        busy, steal, total = busy + here, steal + stolen, total + here + stolen + idle + iowait
    if missing:
        raise ValueError(f"has no line for core {min(missing)}")
    return {"busy_ns": busy * unit, "steal_ns": steal * unit, "all_ns": total * unit}


def pressure(text: str, wanted: tuple[str, ...]) -> dict[str, int]:
    """Time in which some or all tasks waited, such as ``some`` → nanoseconds."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind in wanted:
            found[kind] = int(rest.rpartition("total=")[2]) * 1_000
    if len(found) < len(wanted):
        raise ValueError(f"lacks a line of {', '.join(wanted)}")
    return found


def throttling(text: str) -> dict[str, int]:
    """``throttled_ns``, summed over cores, and ``periods`` in which it happened."""
    stated = dict(line.split() for line in text.splitlines() if line)
    if "throttled_usec" in stated:  # v2
        throttled_ns = int(stated["throttled_usec"]) * 1_000
    elif "throttled_time" in stated:  # v1
        throttled_ns = int(stated["throttled_time"])
    else:
        raise ValueError("tells no throttled time")
    return {"throttled_ns": throttled_ns, "periods": int(stated.get("nr_throttled", "0"))}


def disk_reads(text: str, disks: Set[str]) -> dict[str, int]:
    """``read_bytes`` of the disks together."""
    sectors = 0
    for line in text.splitlines():
        columns = line.split()
        if len(columns) < 6:
            raise ValueError(f"a line has {len(columns)} columns")
        if columns[2] in disks:
            sectors += int(columns[5])
    return {"read_bytes": sectors * _SECTOR_BYTES}


def _find_pressure(root: Path, _: Set[int] | None) -> list[CounterFile] | Unknown:
    """Of the whole system, and of the own control group unless that is the same."""
    folder = root / "proc/pressure"
    if not folder.is_dir():
        return Unknown(why="the kernel counts no pressure (PSI)")
    found = [
        CounterFile(f"pressure.{of}", folder / of, partial(pressure, wanted=lines))
        for of, lines in _PRESSURE_LINES.items()
    ]
    group = next(iter(cgroup.v2_groups(root)), None)
    # The group of the whole system has no cgroup.events (cgroup-v2.rst).
    if group is not None and (group / "cgroup.events").exists():
        found += [
            CounterFile(f"pressure.group.{of}", path, partial(pressure, wanted=lines))
            for of, lines in _PRESSURE_LINES.items()
            if (path := group / f"{of}.pressure").exists()
        ]
    return found


def _find_throttling(root: Path, _: Set[int] | None) -> list[CounterFile] | Unknown:
    """The statistics of the group with the tightest limit: it is the first to hold us back."""
    limited = sorted(_limited_groups(root), key=lambda pair: pair[0])
    if not limited:
        return Unknown(why="no control group that limits CPU time can be seen")
    return [CounterFile("group", limited[0][1] / "cpu.stat", throttling)]


def _limited_groups(root: Path) -> Iterator[tuple[float, Path]]:
    """(cores, folder) of every group that limits the process."""
    stated = [
        *(
            (group, (files.text(group / "cpu.max") or "").split())
            for group in cgroup.v2_groups(root)
        ),
        *(
            (
                group,
                [files.text(group / f"cpu.cfs_{part}_us") or "" for part in ("quota", "period")],
            )
            for group in cgroup.v1_groups(root, "cpu")
        ),
    ]
    for group, words in stated:
        numbers = [files.number(word) for word in words]
        if len(numbers) == 2 and numbers[0] and numbers[1] and numbers[0] > 0:
            yield numbers[0] / numbers[1], group


def _find_thermal(root: Path, affinity: Set[int] | None) -> list[CounterFile] | Unknown:
    """Thermal slowdown: of each package where it is told, else of each core (Intel only).

    The hottest sensor of a package decides for the package, its cores included. The time grows
    when a slowdown ends, the number of events when one begins; one that lasts all the while shows
    in neither.
    """
    found: dict[str, list[CounterFile]] = {}
    for folder in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle"):
        core = folder.parent.name
        if affinity is not None and int(core[3:]) not in affinity:
            continue
        package = files.text(folder.parent / "topology/physical_package_id")
        level = "package" if (folder / "package_throttle_total_time_ms").exists() else "core"
        place = f"package{package}" if level == "package" and package is not None else core
        found.setdefault(
            place,
            [
                CounterFile(f"heat.{place}", path, partial(_number, name=name, unit=unit))
                for name, unit, path in (
                    ("slow_ns", 10**6, folder / f"{level}_throttle_total_time_ms"),
                    ("events", 1, folder / f"{level}_throttle_count"),
                )
            ],
        )
    if not found:
        return Unknown(why="the processor's driver counts no thermal slowdown")
    return [each for pair in found.values() for each in pair]


def _number(text: str, name: str, unit: int) -> dict[str, int]:
    return {name: int(text) * unit}


def _find_disks(root: Path, _: Set[int] | None) -> list[CounterFile] | Unknown:
    """Whole disks, each once: not their partitions, nor what is made of other disks."""
    folder = root / "sys/block"
    try:
        devices = list(folder.iterdir())
    except OSError as error:
        why = f"{folder}: {error.strerror}, so disks and partitions look alike"
        return Unknown(why=why, unreadable=True)
    disks = frozenset(
        disk.name
        for disk in devices
        if not disk.name.startswith(_NOT_STORAGE)
        and files.text(disk / "hidden") != "1"
        and not ((disk / "slaves").is_dir() and any((disk / "slaves").iterdir()))
    )
    if not disks:
        return Unknown(why="no disk can be seen")
    return [CounterFile("disk", root / "proc/diskstats", partial(disk_reads, disks=disks))]


_FINDERS: dict[str, Callable[[Path, Set[int] | None], list[CounterFile] | Unknown]] = {
    "pressure": _find_pressure,
    "group": _find_throttling,
    "heat": _find_thermal,
    "disk": _find_disks,
}
