"""Whose turn is it to measure on this machine?

Two timed sections at once spoil each other, so a measurement holds an advisory lock. The kernel
frees the lock of a holder that is killed; there is nothing to clean up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, SoftFileLock, Timeout

from pytest_llmperf.hardware import files

_POLL_S = 0.25
"""A waiter wakes this often: rarely enough not to disturb the measurement it waits for."""

_TELL_S = 1.0


class LeaseError(Exception):
    """The lock file cannot be used; the message names its folder and what to do."""


def default_directory() -> Path:
    """Folder of the lock files: the user's state directory.

    Not the runtime directory: a login and a CI service of one user have different ones, and it
    vanishes at logout while a detached run still measures.
    """
    return platformdirs.user_state_path("pytest-llmperf", appauthor=False) / "leases"


@contextmanager
def cpu_lease(
    directory: Path | None = None, *, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold this machine's CPU for a timed section; wait as long as another process holds it.

    ``on_wait`` is called about every second while there is someone to wait for. Not to be nested
    (RuntimeError or a wait without end, depending on filelock's version). Raises LeaseError if
    the lock file cannot be made, or if its file system has no locks that the kernel frees.
    """
    folder = default_directory() if directory is None else directory
    # Who waits holds the second lock, which who comes back for another turn has to take first:
    # one that measures without a pause would otherwise have every turn.
    lock, first_in_line = (
        FileLock(folder / f"cpu{_machine()}{each}.lock") for each in ("", "-next")
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _take(first_in_line, on_wait)
        try:
            _take(lock, on_wait)
        finally:
            first_in_line.release()
    except (OSError, NotImplementedError) as error:
        raise LeaseError(_unusable(folder, error)) from error
    try:
        if isinstance(lock, SoftFileLock):  # filelock changes its class where flock is missing
            raise LeaseError(_unusable(folder, "its file system does not support flock"))
        yield
    finally:
        lock.release()


def _take(lock: FileLock, on_wait: Callable[[], None] | None) -> None:
    """Wait for one lock. Raises OSError, NotImplementedError."""
    patience_s = 0.0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=patience_s, poll_interval=_POLL_S)
        except Timeout:
            patience_s = _TELL_S
            if on_wait is not None:
                on_wait()


def _machine() -> str:
    """Part of the file's name that tells hosts apart which share a home over the network.

    The boot id is also the same in all containers of a host, which share its CPU.
    """
    boot_id = files.text(Path("/proc/sys/kernel/random/boot_id"))
    return f"-{boot_id[:8]}" if boot_id else ""


def _unusable(folder: Path, reason: object) -> str:
    return (
        f"cannot take the measurement lock in {folder}: {reason}. Make the folder writable for "
        "this user, or point XDG_STATE_HOME to a local folder that is"
    )
