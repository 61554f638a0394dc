"""Is this runner fit for a measuring job, or should the job be tried elsewhere?

For the hook that a self-hosted runner calls before a job. It reports, and ends nobody.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Literal

import msgspec

from pytest_llmperf.cli.answer import say
from pytest_llmperf.hardware import names
from pytest_llmperf.hardware.gpu_watch import GpuReading
from pytest_llmperf.hardware.lease import default_directory
from pytest_llmperf.hardware.leftovers import Traces, look
from pytest_llmperf.models.cache import cache_root
from pytest_llmperf.report import words

TRY_ELSEWHERE = 75
"""EX_TEMPFAIL of sysexits.h: not the job's fault, and it may work later or elsewhere."""

LEAST_FREE_BYTES = 1 << 30
IDLE_GPU_BYTES = 1 << 30
"""More than what a driver, a context of a display and an idle card take."""
CLOCK_S = 3600.0
FATAL_XIDS = {
    48: "memory error that could not be corrected",
    62: "the card's controller halted",
    64: "a broken row of memory could not be replaced",
    74: "NVLink error",
    79: "the card has fallen off the bus",
    95: "memory error that was not contained",
    119: "the card's system processor does not answer",
    120: "error of the card's system processor",
}
"""After which only a reset helps, by NVIDIA's Xid catalogue; others are mostly a program's own."""


Level = Literal["trouble", "note"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found."""

    level: Level
    """``trouble``: the job is better tried elsewhere."""
    about: Literal["process", "lease", "gpu", "driver", "disk", "clock", "folder"]
    text: str


class Fitness(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    exit_code: int
    findings: list[Finding]


def run(*, as_json: bool) -> int:
    """Look, and say it; 0: clean, 75: try elsewhere."""
    leases = default_directory()
    disks = (("models", cache_root()), ("leases and history", leases))
    findings = list(judge(look(leases.parent, disks)))
    is_bad = any(each.level == "trouble" for each in findings)
    fitness = Fitness(exit_code=TRY_ELSEWHERE if is_bad else 0, findings=findings)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(fitness)).decode())
        return fitness.exit_code
    say(*(f"{each.level}: {each.text}" for each in findings))
    say(
        "this runner is not fit for measuring: try the job elsewhere; nothing was ended or removed"
        if is_bad
        else "this runner is fit for measuring"
    )
    return fitness.exit_code


def judge(traces: Traces) -> Iterator[Finding]:
    """What is wrong, one line each."""
    yield from _processes(traces)
    yield from _leases(traces)
    for gpu in traces.gpus:
        yield from _gpu(gpu, traces)
    yield from _driver(traces)
    yield from _disks(traces)
    yield from _clock(traces)
    for folder in traces.folders:
        yield Finding(level="note", about="folder", text=f"left by an earlier run: {folder}")


def _processes(traces: Traces) -> Iterator[Finding]:
    for each in traces.processes:
        job = f" of job {each.job}" if each.job else ""
        if each.is_orphan:
            text = f"process {each.pid}{job} outlived its pytest: {each.command}"
            yield Finding(level="trouble", about="process", text=text)
        elif each.is_orphan is None:
            text = f"process {each.pid}{job}: whether its pytest runs may not be seen"
            yield Finding(level="note", about="process", text=f"{text}: {each.command}")
        elif each.pid == each.group:
            text = f"process {each.pid}{job} belongs to a run that goes on: {each.command}"
            yield Finding(level="note", about="process", text=text)


def _leases(traces: Traces) -> Iterator[Finding]:
    for lease in traces.leases:
        taker = "somebody" if lease.taking is None else f"process {lease.taking.process.pid}"
        if lease.is_taker_alive is False and lease.name.startswith("gpu"):
            holders = ", ".join(map(str, lease.holders)) or "nobody that this user may see"
            gone = f"{lease.name} was taken by {taker}, which is gone"
            text = f"{gone}, and is still held by {holders}"
            yield Finding(level="trouble", about="lease", text=text)
            continue
        if lease.is_taker_alive:
            user = f"{taker}, which is running"
        elif lease.is_taker_alive is None:
            user = f"{taker}, of whom cannot be told here whether it runs (another container?)"
        else:
            user = "somebody who shares it"
        text = f"{lease.name} is in use by {user}: a job would wait for it"
        yield Finding(level="note", about="lease", text=text)


def _gpu(gpu: GpuReading, traces: Traces) -> Iterator[Finding]:
    name = f"{gpu.uuid or gpu.pci} ({gpu.name})"
    at_work = {each.pid for each in traces.processes if not each.is_orphan}
    lock = f"gpu-{names.slug(gpu.uuid or '')}"
    is_leased = any(
        each.name == lock and each.is_taker_alive is not False for each in traces.leases
    )
    # In a container the driver's numbers are not ours, and a run's worker looks like a stranger.
    level: Level = "note" if is_leased else "trouble"
    strangers = [each for each in gpu.processes or () if each.pid not in at_work]
    for each in strangers:
        held = "" if each.used_bytes is None else f" {words.size(each.used_bytes)} of"
        text = f"process {each.pid} ({each.name or 'name unknown'}) holds{held} {name}"
        yield Finding(level=level, about="gpu", text=text)
    if not gpu.processes and (gpu.used_bytes or 0) > IDLE_GPU_BYTES:
        text = (
            f"{words.size(gpu.used_bytes or 0)} of {name} are in use, by no process that the "
            "driver names"
        )
        yield Finding(level=level, about="gpu", text=text)
    if gpu.trouble is not None:
        yield Finding(level="trouble", about="driver", text=f"{name}: {gpu.trouble}")


def _driver(traces: Traces) -> Iterator[Finding]:
    for text in traces.driver:
        yield Finding(level="trouble", about="driver", text=text)
    for card in traces.gone:
        text = f"{card} was measured on since the last boot and is not there now: read 'dmesg'"
        yield Finding(level="trouble", about="driver", text=text)
    for card in traces.hidden:
        text = f"{card} was measured on since the last boot and is not seen from here"
        yield Finding(level="note", about="driver", text=text)
    for bus, number in traces.xids:
        if number in FATAL_XIDS:
            text = f"Xid {number} of {bus} since the last boot: {FATAL_XIDS[number]}; reboot"
            yield Finding(level="trouble", about="driver", text=text)
    for text in traces.unseen:
        yield Finding(level="note", about="driver", text=text)


def _disks(traces: Traces) -> Iterator[Finding]:
    for disk in traces.disks:
        where = f"{disk.folder}, for {disk.use},"
        if not disk.is_writable:
            text = f"{where} cannot be written: make it writable for this user"
            yield Finding(level="trouble", about="disk", text=text)
        elif disk.free_bytes < LEAST_FREE_BYTES:
            text = (
                f"{where} has {words.size(disk.free_bytes)} free: 'pytest-llmperf cache prune' "
                "makes room"
            )
            yield Finding(level="trouble", about="disk", text=text)


def _clock(traces: Traces) -> Iterator[Finding]:
    """Against a clock that nobody sets, since boot; before that, against our newest file."""
    of_this_boot = [
        (each.uptime_s, each.at, file)
        for file, each in traces.takings.items()
        if each.uptime_s is not None and each.process.boot_id == traces.boot_id
    ]
    if of_this_boot and traces.uptime_s is not None:
        uptime_s, at, file = max(of_this_boot)
        stepped_s = (traces.now - at) - (traces.uptime_s - uptime_s)
        if abs(stepped_s) > CLOCK_S:
            text = (
                f"the clock was set {_hours(stepped_s)} since the last measurement of this boot: "
                f"set it right, or, if it is, empty {file}"
            )
            yield Finding(level="trouble", about="clock", text=text)
            return
    file, written = traces.last_write or ("", traces.now)
    if written - traces.now > CLOCK_S:
        then = datetime.datetime.fromtimestamp(written, datetime.UTC)
        text = (
            f"the clock is {(written - traces.now) / 3600:.1f} h behind our newest file, written "
            f"{then:%Y-%m-%d %H:%M} UTC: set it right, or, if it is, touch {file}"
        )
        yield Finding(level="trouble", about="clock", text=text)


def _hours(seconds: float) -> str:
    return f"{abs(seconds) / 3600:.1f} h {'forward' if seconds > 0 else 'back'}"
