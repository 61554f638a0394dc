"""Whose turn is it to use this machine's CPU?

Two timed sections at once spoil each other, so a measurement holds an advisory lock: alone when
the CPU computes, together with others when each has GPUs of its own. The kernel frees the lock of
a holder that is killed; there is nothing to clean up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from pytest_llmperf.hardware import files
from pytest_llmperf.hardware.lock import Lock

OnWait = Callable[[], None]
"""Called about every second while there is someone to wait for."""

_FIRST_POLL_S = 0.01
POLL_S = 0.25
"""A waiter wakes this often: rarely enough not to disturb the measurement it waits for."""

_TELL_S = 1.0
LINE = "next-"
"""How the name of the lock begins that keeps a turn."""


class LeaseError(Exception):
    """What is to be measured on cannot be taken; the message says why, and what to do."""


def default_directory() -> Path:
    """Folder of the lock files: the user's state directory.

    Not the runtime directory: a login and a CI service of one user have different ones, and it
    vanishes at logout while a detached run still measures.
    """
    return platformdirs.user_state_path("pytest-llmperf", appauthor=False) / "leases"


def lock_path(folder: Path, what: str) -> Path:
    """The file of one lock. Part of its name tells hosts apart that share a home by network.

    The boot id is also the same in all containers of a host, which share its CPU.
    """
    boot_id = files.text(Path("/proc/sys/kernel/random/boot_id"))
    return folder / (f"{what}-{boot_id[:8]}.lock" if boot_id else f"{what}.lock")


def line_path(lock: Path) -> Path:
    """The file of the lock that whoever is to take ``lock`` next holds meanwhile."""
    return lock.with_name(f"{LINE}{lock.name}")


@contextmanager
def cpu_lease(
    directory: Path | None = None, *, shared: bool = False, on_wait: OnWait | None = None
) -> Iterator[None]:
    """Hold this machine's CPU for a timed section; wait as long as another process holds it.

    ``shared``: beside others who share it, as those do that compute on GPUs of their own. Not to
    be nested (a wait without end). Raises LeaseError if the lock file cannot be made, or if its
    file system has no locks that the kernel frees.
    """
    folder = default_directory() if directory is None else directory
    # Who waits holds the second lock, which who comes back for another turn has to take first:
    # one that measures without a pause would otherwise have every turn.
    lock = Lock(lock_path(folder, "cpu"))
    first_in_line = Lock(line_path(lock.path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        wait_for(first_in_line.take, on_wait)
        try:
            wait_for(lambda: lock.take(shared=shared), on_wait)
        finally:
            first_in_line.leave()
    except OSError as error:
        raise LeaseError(unusable(folder, error)) from error
    try:
        yield
    finally:
        lock.leave()


def wait_for(
    is_taken: Callable[[], bool], on_wait: OnWait | None, *, first_poll_s: float = _FIRST_POLL_S
) -> None:
    """Try again and again until it is."""
    pause_s, told = first_poll_s, time.monotonic()
    while not is_taken():
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_S)
        if on_wait is not None and time.monotonic() - told >= _TELL_S:
            told = time.monotonic()
            on_wait()


def unusable(folder: Path, reason: object) -> str:
    """What is said of a folder in which no lock can be taken."""
    return (
        f"cannot take the measurement lock in {folder}: {reason}. Make the folder writable for "
        "this user, or point XDG_STATE_HOME to a local folder that is"
    )
