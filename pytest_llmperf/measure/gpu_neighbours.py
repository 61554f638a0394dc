"""Who else computes on the GPUs, and does the memory of an ended worker come back?

The driver names processes by the host's ids. In a container these are not ours, so there the
worker may stand in the list under a number that we do not know (NVIDIA/nvidia-docker issue 1483).
"""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from pytest_llmperf.hardware import files, names
from pytest_llmperf.hardware.gpu_watch import GpuProcess, GpuReading, GpuSnapshot

TOLERANCE_BYTES = 64 << 20
"""By how much the use of a card may differ from before and still count as the same."""
GIVE_BACK_S = 10.0

_POLL_S = 0.1
_COMMAND_LENGTH = 120
_HOST_PIDS = "pid:[4026531836]"
"""PID_NS_INIT_INO in the kernel's include/uapi/linux/nsfs.h, as readlink shows it."""

Presence = Literal["all along", "came", "left"]


class Reads(Protocol):
    """What is needed of a GpuWatch."""

    def read(self) -> GpuSnapshot | None:
        """All GPUs now; None: not known any more."""
        ...


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A compute process that is not the worker's."""

    pid: int
    """As the driver counts: the host's number."""
    command: str | None
    """Its command line, or else its program; None: not told."""
    used_bytes: int | None = None
    presence: Presence = "all along"
    """Whether it was there at both readings, or only at the later or the earlier one."""

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command or 'command unknown'})"


class Occupants(msgspec.Struct, frozen=True, kw_only=True):
    """The compute processes on one GPU, sorted by whose they are."""

    own: tuple[GpuProcess, ...] = ()
    foreign: tuple[GpuProcess, ...] = ()
    unclear: tuple[GpuProcess, ...] = ()
    """One of them may be the worker under the host's number."""

    @property
    def shared(self) -> bool:
        """Whether somebody else is certainly there."""
        return bool(self.foreign) or len(self.unclear) > 1

    @property
    def own_bytes(self) -> int | None:
        """What the worker's processes hold; None unless every one has a positive figure."""
        held = [each.used_bytes or 0 for each in self.own]
        return sum(held) if held and min(held) > 0 else None


def sees_host_pids(root: Path = Path("/")) -> bool:
    """Whether process ids here are those that the driver counts; False also if not known."""
    try:
        return str((root / "proc/self/ns/pid").readlink()) == _HOST_PIDS
    except OSError:
        return False


def find_gpu(snapshot: GpuSnapshot | None, uuid: str | None, pci: str | None) -> GpuReading | None:
    """The GPU with this UUID, else the only one at this bus address; never by its index."""
    gpus = () if snapshot is None else snapshot.gpus
    if uuid is not None:
        for gpu in gpus:
            if gpu.uuid is not None and _bare(gpu.uuid) == _bare(uuid):
                return gpu
    at_address = [gpu for gpu in gpus if pci and gpu.pci and gpu.pci.lower() == pci.lower()]
    return at_address[0] if len(at_address) == 1 else None


def _bare(uuid: str) -> str:
    """NVML writes ``GPU-…`` or ``MIG-…``, CUDA only what follows."""
    return uuid.removeprefix("GPU-").removeprefix("MIG-").lower()


def label(gpu: GpuReading) -> str:
    """``GPU-3f2a1b4c (RTX 4060 Ti)``."""
    return f"{(gpu.uuid or gpu.pci or 'GPU')[:12]} ({names.normalized(gpu.name)})"


def occupants(
    now: GpuReading, idle: GpuReading | None, own_pids: Collection[int], *, host_pids: bool
) -> Occupants | None:
    """Sort the compute processes on one GPU; None if the driver does not list them.

    ``idle`` is its reading from before the worker started: what was listed then is not ours, even
    if it bears one of our numbers. ``host_pids``: :func:`sees_host_pids`.
    """
    if now.processes is None:
        return None
    earlier = {each.pid for each in (idle.processes if idle else None) or ()}
    own = tuple(each for each in now.processes if each.pid in own_pids and each.pid not in earlier)
    rest = tuple(each for each in now.processes if each not in own)
    if own or host_pids:
        return Occupants(own=own, foreign=rest)
    return Occupants(
        foreign=tuple(each for each in rest if each.pid in earlier),
        unclear=tuple(each for each in rest if each.pid not in earlier),
    )


def neighbour(
    process: GpuProcess,
    root: Path = Path("/"),
    *,
    host_pids: bool,
    presence: Presence = "all along",
) -> Neighbour:
    """The process with its command line, as far as that can be read here."""
    command = process.name
    if host_pids:
        line = files.text(root / f"proc/{process.pid}/cmdline") or ""
        command = line.replace("\0", " ")[:_COMMAND_LENGTH] or process.name
    return Neighbour(
        pid=process.pid, command=command, used_bytes=process.used_bytes, presence=presence
    )


def wait_until_given_back(
    watch: Reads,
    idle: GpuSnapshot,
    deadline_s: float = GIVE_BACK_S,
    *,
    root: Path = Path("/"),
) -> str | None:
    """Wait until every GPU is as free as before the worker, which has ended, was started.

    Returns None when it is (within TOLERANCE_BYTES) or when nothing can be read any more, which
    the watch itself tells; else the environment's error: which GPU, how much, and who is there.
    Whoever that is, it is left alone.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        now = watch.read()
        if now is None:
            return None
        held = [(gpu, more) for gpu in now.gpus if (more := _more_than_idle(gpu, idle))]
        if not held:
            return None
        if time.monotonic() >= deadline:
            return "; ".join(_stays(gpu, more, deadline_s, root) for gpu, more in held)
        time.sleep(_POLL_S)


def _more_than_idle(gpu: GpuReading, idle: GpuSnapshot) -> int:
    before = find_gpu(idle, gpu.uuid, gpu.pci)
    if before is None or gpu.used_bytes is None or before.used_bytes is None:
        return 0
    more = gpu.used_bytes - before.used_bytes
    return more if more > TOLERANCE_BYTES else 0


def _stays(gpu: GpuReading, more_bytes: int, waited_s: float, root: Path) -> str:
    host_pids = sees_host_pids(root)
    there = [str(neighbour(each, root, host_pids=host_pids)) for each in gpu.processes or ()]
    who = ", ".join(there) or "no compute process that the driver would name"
    return (
        f"{label(gpu)} holds {more_bytes / 2**20:.0f} MiB more than before the worker was started, "
        f"{waited_s:g} s after it ended; there now: {who}. Nothing was killed: end what holds the "
        "memory, or measure on another GPU"
    )
