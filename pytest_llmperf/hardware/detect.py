"""What machine is this?

Everything is read below a root folder, and what is not a file is a field of :class:`Host`, so
that a machine can be described by a folder. No engine is imported and no GPU is initialized in
this process.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pytest_llmperf.hardware import (
    amd,
    apple,
    cpu,
    files,
    fingerprint,
    intel,
    jetson,
    memory,
    nvidia,
)
from pytest_llmperf.hardware.facts import Accelerator, Cpu, Hardware, Memory

_OS_FAMILIES = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}
_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


def _ram() -> tuple[int, int]:
    state = psutil.virtual_memory()
    return int(state.total), int(state.available)


@dataclass(frozen=True)
class Host:
    """What a machine tells other than through files. The defaults ask the real one."""

    system: str = field(default_factory=platform.system)
    machine: str = field(default_factory=platform.machine)
    kernel: str = field(default_factory=platform.release)
    processor: str = field(default_factory=platform.processor)
    os_version: str = field(default_factory=lambda: platform.mac_ver()[0] or platform.version())
    affinity: Set[int] | None = field(default_factory=cpu.affinity)
    logical_cores: int = field(default_factory=lambda: psutil.cpu_count() or 1)
    ram: Callable[[], tuple[int, int]] = _ram
    """Total and available bytes; asked only where there is no /proc."""
    sysctl: apple.Sysctl = apple.sysctl
    nvidia: Callable[[Path], nvidia.Look] = nvidia.look


Part = tuple[Cpu, Memory, tuple[Accelerator, ...], str | None, tuple[str, ...]]
"""Processor, memory, accelerators, board, findings."""


def detect(root: Path = Path("/"), *, host: Host | None = None, tag: str | None = None) -> Hardware:
    """Describe the machine whose files lie below ``root``.

    ``tag`` is the user's own name for the machine and replaces its fingerprints; ValueError if
    it cannot be a folder's name. Troubles with the machine never raise: they are findings.
    """
    here = Host() if host is None else host
    name = None if tag is None else fingerprint.of_tag(tag)
    read = {"Linux": _linux, "Darwin": _macos}.get(here.system, _other)
    processor, ram, accelerators, device, findings = read(root, here)
    os_family = _OS_FAMILIES.get(here.system, here.system.lower() or "unknown")
    arch = _arch(here)
    gpus = tuple(each for each in accelerators if each.runs_models)
    of_cpu = fingerprint.of_cpu(os_family, arch, processor)
    of_gpus = fingerprint.of_accelerators(os_family, arch, processor, ram.total_bytes, gpus)
    return Hardware(
        system=_system(root, here),
        os_family=os_family,
        arch=arch,
        kernel=here.kernel,
        cpu=processor,
        memory=ram,
        accelerators=accelerators,
        device=device,
        findings=findings,
        fingerprint=name or (of_gpus if gpus else of_cpu),
        cpu_fingerprint=name or of_cpu,
    )


def _linux(root: Path, host: Host) -> Part:
    processor, cpu_findings = cpu.from_linux(root, host.affinity)
    ram, memory_findings = memory.from_linux(root)
    board = jetson.detect(root)
    nvidia_look = host.nvidia(root)
    accelerators = nvidia_look.accelerators
    device = None
    if board is not None:
        device, gpu = board
        # The driver library of newer Jetsons reports the same GPU again; a card beside it is new.
        accelerators = (gpu, *(each for each in accelerators if not each.integrated))
    amd_gpus, amd_findings = amd.detect(root)
    intel_gpus, intel_findings = intel.detect(root)
    findings = (
        *cpu_findings,
        *memory_findings,
        *nvidia_look.findings,
        *amd_findings,
        *intel_findings,
    )
    return processor, ram, (*accelerators, *amd_gpus, *intel_gpus), device, findings


def _macos(_root: Path, host: Host) -> Part:
    accelerators, findings = apple.accelerators(host.sysctl, host.os_version)
    ram = memory.without_groups(*host.ram())
    return apple.cpu(host.sysctl), ram, accelerators, None, findings


def _other(root: Path, host: Host) -> Part:
    """Windows, and systems that nobody has looked at: what psutil and platform tell."""
    allowed = host.logical_cores if host.affinity is None else len(host.affinity)
    processor = cpu.from_windows(host.processor, host.logical_cores, allowed)
    look = host.nvidia(root)
    findings = (f"CPU features and caches are not detected on {host.system}", *look.findings)
    return processor, memory.without_groups(*host.ram()), look.accelerators, None, findings


def _arch(host: Host) -> str:
    machine = host.machine.lower()
    if host.system == "Darwin" and host.sysctl("hw.optional.arm64") == "1":
        return "aarch64"  # Rosetta answers x86_64
    return _ARCHITECTURES.get(machine, machine or "unknown")


def _system(root: Path, host: Host) -> str:
    """The operating system in words."""
    if host.system == "Linux":
        for line in (files.text(root / "etc/os-release") or "").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip("\"'")
    name = "macOS" if host.system == "Darwin" else host.system
    return f"{name} {host.os_version}".strip()
