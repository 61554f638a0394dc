"""How does one process hold what no other may, until it and all who inherited it are gone?

flock(2) locks belong to an open file, not to a process: a child that inherits the descriptor holds
the lock, too, and the kernel frees it when the last of them has ended, however that happens. That
is why this is not filelock, which keeps its descriptor to itself.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec

from pytest_llmperf.identity import Identity, identify

_forkable: set[int] = set()
"""Descriptors that a fork of this process must not keep: it would keep the lock."""


class NoLocks(OSError):
    """The system, or the disk of the lock's folder, has no locks that the kernel frees."""


class Taking(msgspec.Struct, frozen=True, kw_only=True):
    """Who took a lock alone, and when: kept in its file, also after he gave it back."""

    process: Identity
    at: float
    """By the wall clock, in seconds since 1970."""
    uptime_s: float | None
    """Since the machine was booted, by a clock that nobody sets; None: not told."""
    pid_namespace: str | None = None
    """In which the process has its number; None: not told, or there are none."""

    @classmethod
    def now(cls) -> Taking:
        """By this process."""
        return cls(
            process=identify(os.getpid()),
            at=time.time(),
            uptime_s=uptime_s(),
            pid_namespace=pid_namespace(),
        )


class Lock:
    """One lock file. It stays where it is: who removed it would let two processes hold it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = -1
        """Of the file while the lock is held, else −1."""

    def take(self, *, shared: bool = False) -> bool:
        """Take it if it is free; whether it was. ``shared``: beside others who share it.

        Raises OSError, NoLocks.
        """
        try:
            import fcntl
        except ImportError:
            raise NoLocks("Windows has no locks that a child inherits: use WSL") from None
        descriptor = _open(self.path)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise NoLocks(f"its file system does not support flock ({error.strerror})") from error
        self.descriptor = descriptor
        _forkable.add(descriptor)
        if not shared:
            with contextlib.suppress(OSError):  # a full disk; the note is not the lock
                _write(descriptor, msgspec.json.encode(Taking.now()))
        return True

    def leave(self) -> None:
        """Hold it no longer; who inherited it still does."""
        if self.descriptor >= 0:
            _forkable.discard(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1

    def free(self) -> None:
        """Give it to others now, whoever inherited it."""
        if self.descriptor >= 0:
            import fcntl

            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.leave()


def last_taking(path: Path) -> Taking | None:
    """Who took the lock last, alone; None: it is not told. Raises OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Taking)
    except msgspec.MsgspecError:
        return None


def uptime_s() -> float | None:
    """Seconds since the machine was booted, sleep included; None: this system does not tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return None if clock is None else time.clock_gettime(clock)


def _open(path: Path) -> int:
    """Another user's lock file can be locked, too, but takes no note. Raises OSError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY)


def pid_namespace() -> str | None:
    """Of this process, such as ``pid:[4026531836]``; None: this system has none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _write(descriptor: int, text: bytes) -> None:
    os.ftruncate(descriptor, 0)  # first: half a note must not stand for the one before
    os.pwrite(descriptor, text, 0)


def _forget() -> None:
    """In a fork of this process that runs no other program."""
    for descriptor in _forkable:
        os.close(descriptor)
    _forkable.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
