"""What did earlier jobs leave on this machine, and does it work? Looks, and touches nothing.

Our processes are known by the variables that they were started with. Each holds the read end of a
pipe whose write end is its pytest's: where the parent does not have that pipe, the pytest is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from pytest_llmperf.child import DEATH_PIPE_VARIABLE, LEASES_VARIABLE
from pytest_llmperf.hardware import files, names, nvidia
from pytest_llmperf.hardware.gpu_watch import GpuReading, GpuWatch
from pytest_llmperf.hardware.lease import LINE, lock_path
from pytest_llmperf.hardware.lock import Lock, Taking, last_taking, pid_namespace, uptime_s

TRACKING_VARIABLE = "RUNNER_TRACKING_ID"
"""By which GitHub's runner knows the processes of a job."""

_KERNEL_LOG = Path("/dev/kmsg")
_KERNEL_CARDS = Path("/proc/driver/nvidia/gpus")
_XID = re.compile(r"NVRM: Xid \(([^)]*)\): (\d+)")
_CARD = re.compile(r"^GPU UUID:\s*(GPU-[0-9A-Za-z-]+)\s*$", re.MULTILINE)
_COMMAND_LENGTH = 120
_AGAIN_S = 0.2
"""What ends with its pytest has ended by then."""


class OurProcess(msgspec.Struct, frozen=True, kw_only=True):
    """One that this package started, or that an engine of ours did."""

    pid: int
    group: int
    command: str
    is_orphan: bool | None
    """Whether the pytest that started it is gone; None: that may not be seen."""
    job: str | None
    """The ``RUNNER_TRACKING_ID`` that it was started with."""


class HeldLease(msgspec.Struct, frozen=True, kw_only=True):
    """A lock that is taken."""

    name: str
    taking: Taking | None
    is_taker_alive: bool | None
    """None: cannot be told, as of a process that has its number in another container."""
    holders: tuple[int, ...]
    """Processes that have its file open, as far as that may be read."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that measuring writes to, or what there is of the way to it."""

    use: str
    folder: str
    free_bytes: int
    is_writable: bool


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was looked at."""

    now: float
    """By the wall clock, in seconds since 1970."""
    uptime_s: float | None
    boot_id: str | None
    processes: tuple[OurProcess, ...] = ()
    leases: tuple[HeldLease, ...] = ()
    takings: Mapping[str, Taking] = {}
    """All that the lock files of this boot tell of, by file."""
    last_write: tuple[str, float] | None = None
    """The newest of our files, and when it was written, by the wall clock then."""
    disks: tuple[Disk, ...] = ()
    folders: tuple[str, ...] = ()
    """Temporary folders of ours that are a day old."""
    gpus: tuple[GpuReading, ...] = ()
    gone: tuple[str, ...] = ()
    """NVIDIA cards that were measured on since boot, and that the kernel does not know now."""
    hidden: tuple[str, ...] = ()
    """Those that are not seen here, as in another runner's container, and may well be there."""
    driver: tuple[str, ...] = ()
    """What is wrong with the NVIDIA driver."""
    xids: tuple[tuple[str, int], ...] = ()
    """Bus address and number of the errors in the kernel's log, since boot."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at, and why."""


def look(
    state: Path,
    disks: Sequence[tuple[str, Path]],
    log: Path = _KERNEL_LOG,
    cards: Path = _KERNEL_CARDS,
) -> Traces:
    """Look around; ``state``: our folder of the user's state, ``disks``: what is written to."""
    gpus, parents, driver = _gpus()
    xids, unread = _xids(log)
    locks = _locks(state / "leases")
    missing = _missing(locks, {*parents, *(names.slug(gpu.uuid or "") for gpu in gpus)})
    known = _known(cards)
    if known is None or (gpus and not known):  # WSL's kernel lists none
        known = missing
    return Traces(
        now=time.time(),
        uptime_s=uptime_s(),
        boot_id=Taking.now().process.boot_id,
        processes=tuple(_ours()),
        leases=tuple(_held(locks)),
        takings={str(path): told for path in locks if (told := _taking(path)) is not None},
        last_write=_last_write(state),
        disks=tuple(_disk(use, folder) for use, folder in disks),
        folders=tuple(_old_folders()),
        gpus=gpus,
        gone=tuple(sorted(missing - known)),
        hidden=tuple(sorted(missing & known)),
        driver=driver,
        xids=tuple(xids),
        unseen=() if unread is None or not gpus else (unread,),
    )


def _ours() -> Iterator[OurProcess]:
    if not hasattr(os, "getpgid"):  # Windows, where no worker runs
        return
    suspects = []
    for each in psutil.process_iter():
        told = _told(each)
        if told is not None and told.is_orphan is False:
            yield told
        elif told is not None:
            suspects.append(each)
    if suspects:
        time.sleep(_AGAIN_S)  # one may just have been ending
    yield from filter(None, (_told(each) for each in suspects if each.is_running()))


def _told(process: psutil.Process) -> OurProcess | None:
    """None: it is none of ours, or not there any more."""
    with contextlib.suppress(psutil.Error, OSError):
        variables = process.environ()
        if DEATH_PIPE_VARIABLE in variables or LEASES_VARIABLE in variables:
            return OurProcess(
                pid=process.pid,
                group=os.getpgid(process.pid),
                command=" ".join(process.cmdline())[:_COMMAND_LENGTH],
                is_orphan=_is_orphan(process),
                job=variables.get(TRACKING_VARIABLE),
            )
    return None


def _is_orphan(process: psutil.Process) -> bool | None:
    """Whether the pytest is gone that started it, or whom it descends from; None: not told."""
    try:
        started = _started(process)
        parent = started.ppid()
        if not Path("/proc/self/fd").exists():  # macOS, where the first process adopts orphans
            return parent == 1
        pipe = started.environ()[DEATH_PIPE_VARIABLE]
        ours = Path(f"/proc/{started.pid}/fd/{pipe}").readlink()
    except (psutil.NoSuchProcess, FileNotFoundError, KeyError):
        return True
    except (psutil.AccessDenied, PermissionError):
        return None
    try:
        return ours not in _open_pipes(parent)
    except FileNotFoundError:
        return True
    except PermissionError:  # the first process, or one of another user, adopts orphans
        return True if parent == 1 or _user(parent) != _user(started.pid) else None


def _started(process: psutil.Process) -> psutil.Process:
    """The nearest that a pytest started, of a helper's ancestors or, without any, its group.

    Raises psutil.NoSuchProcess, psutil.AccessDenied.
    """
    for each in (process, *process.parents()):
        with contextlib.suppress(psutil.AccessDenied):  # of another user
            if DEATH_PIPE_VARIABLE in each.environ():
                return each
    return psutil.Process(os.getpgid(process.pid))


def _user(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).uids().real)
    except psutil.Error:
        return None


def _open_pipes(pid: int) -> set[Path]:
    """What a process has open. Raises FileNotFoundError, PermissionError."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(each.readlink())
    return found


def _name(lock: Path) -> str | None:
    """Of what it is the lock; None: of another boot, or host that shares the folder."""
    ending = lock_path(lock.parent, "").name
    return lock.name.removesuffix(ending) if lock.name.endswith(ending) else None


def _held(locks: Sequence[Path]) -> Iterator[HeldLease]:
    open_files = _open_files({str(path) for path in locks})
    for path in locks:
        lock = Lock(path)
        try:
            is_free = lock.take(shared=True)
        except OSError:
            continue  # the disk is told of
        lock.leave()
        if not is_free:
            taking = _taking(path)
            yield HeldLease(
                name=_name(path) or path.stem,
                taking=taking,
                is_taker_alive=_is_alive(taking),
                holders=tuple(open_files.get(str(path), ())),
            )


def _is_alive(taking: Taking | None) -> bool | None:
    if taking is None or taking.pid_namespace != pid_namespace():
        return None
    return taking.process.is_alive


def _open_files(wanted: set[str]) -> dict[str, list[int]]:
    """Which processes have these files open."""
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            for each in {file.path for file in process.open_files()} & wanted:
                found.setdefault(each, []).append(process.pid)
    return found


def _taking(path: Path) -> Taking | None:
    try:
        return last_taking(path)
    except OSError:
        return None


def _locks(folder: Path) -> list[Path]:
    """Those of this boot: another host's processes cannot be judged from here."""
    try:
        found = (path for path in folder.glob("*.lock") if not path.name.startswith(LINE))
        return sorted(path for path in found if _name(path) is not None)
    except OSError:  # the disk is told of
        return []


def _last_write(state: Path) -> tuple[str, float] | None:
    """A file may go between the list and the look: a journal of the history does."""
    newest: tuple[str, float] | None = None
    for folder, _, found in os.walk(state):
        for name in found:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                written = path.stat().st_mtime
                if newest is None or written > newest[1]:
                    newest = (str(path), written)
    return newest


def _disk(use: str, folder: Path) -> Disk:
    try:
        there = _existing(folder)
        free_bytes = shutil.disk_usage(there).free
        is_writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError:
        free_bytes, is_writable = 0, False
    return Disk(use=use, folder=str(folder), free_bytes=free_bytes, is_writable=is_writable)


def _existing(folder: Path) -> Path:
    """What there is of the way to it. Raises OSError where that may not be seen."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        if folder == folder.parent:
            raise
        return _existing(folder.parent)
    return folder


def _old_folders() -> Iterator[str]:
    try:
        temporary = Path(tempfile.gettempdir())
        found = sorted(temporary.glob("pytest-llmperf-*"))
    except OSError:  # no disk has room for a temporary file
        return
    for path in found:
        with contextlib.suppress(OSError):
            if path.is_dir() and time.time() - path.stat().st_mtime > 86400:
                yield str(path)


def _gpus() -> tuple[tuple[GpuReading, ...], set[str], tuple[str, ...]]:
    """What NVML tells of them, the cards that are divided, and what is wrong."""
    try:
        return _asked_gpus()
    except OSError as error:  # a full disk, too many processes
        return (), set(), (f"NVML cannot be asked: {error}",)


def _asked_gpus() -> tuple[tuple[GpuReading, ...], set[str], tuple[str, ...]]:
    seen = nvidia.look()
    if not seen.accelerators:
        return (), set(), seen.findings
    instances = (each.mig_name for each in seen.accelerators if each.mig_name)
    parents = {names.slug(each.removeprefix("MIG-").split("/")[0]) for each in instances}
    watch = GpuWatch.start()
    try:
        snapshot = watch.read()
    finally:
        watch.close()
    if snapshot is None:
        return (), parents, (*seen.findings, watch.trouble or "NVML told nothing")
    return snapshot.gpus, parents, (*seen.findings, *snapshot.troubles)


def _missing(locks: Sequence[Path], here: set[str]) -> set[str]:
    """Cards with a lock that are not here; MIG instances come and go."""
    leased = {(_name(path) or "").removeprefix("gpu-") for path in locks}
    return {card for card in leased if card.startswith("gpu-")} - here


def _known(cards: Path) -> set[str] | None:
    """The cards of the kernel's own list; None: a container's runtime cut it, or it is not told."""
    found = set()
    try:
        if cards.is_mount() or cards.parent.is_mount():
            return None
        told = [files.text(path) for path in cards.glob("*/information")]
    except OSError:
        return None
    for text in told:
        stated = _CARD.search(text or "")
        if stated is None:  # as of a card that nobody woke: GPU-????????-…
            return None
        found.add(names.slug(stated[1]))
    return found


def _xids(log: Path) -> tuple[list[tuple[str, int]], str | None]:
    """NVIDIA's errors in the kernel's log, or why it cannot be read."""
    text = b""
    try:
        descriptor = os.open(log, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            while piece := _record(descriptor):
                text += piece
        finally:
            os.close(descriptor)
    except OSError as error:
        return [], f"Xid errors: the kernel's log cannot be read ({error.strerror})"
    found = _XID.findall(text.decode(errors="replace"))
    return sorted({(bus, int(number)) for bus, number in found}), None


def _record(log: int) -> bytes:
    """The next record of the kernel's log; empty at its end. Raises OSError."""
    while True:
        try:
            return os.read(log, 8192)
        except BrokenPipeError:  # newer ones overwrote it: go on with the oldest there is
            continue
        except BlockingIOError:
            return b""
