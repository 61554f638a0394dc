"""Is a part of the cache in use, and how does it go if it is not?

A model that a running process has looked up is held by a lock of the kernel's, and stays; so does a
partial build whose builder lives. An environment stays while it is made, and while a process has a
file of it in its memory. What goes is renamed first: whatever becomes of the removal then, nothing
is found half removed under its own name, and what is left of it counts as a partial build.
"""

from __future__ import annotations

import enum
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from pytest_llmperf.models.cache import PARTIAL, Entry
from pytest_llmperf.models.pruning import ENVIRONMENTS, Cached

READY = ".ready"
"""The file in an environment that says: it is whole."""


class Outcome(enum.Enum):
    """What became of a removal."""

    GONE = "gone"
    IN_USE = "in use"
    STUCK = "stuck"
    """It, or a part of it, is still there: somebody else's files, or a disk that is read only."""


def in_use(cached: Cached) -> bool:
    """Whether a running process has looked it up, makes it, or runs from it. Writes nothing."""
    path = Path(cached.path)
    if path.parent.name == ENVIRONMENTS:
        return _is_made(path) or _is_mapped(path)
    entry = _entry(cached)
    kinds = ("lock",) if cached.kind == "partial" else ("lock", "used")
    return any(_is_locked(entry.lock_file(kind)) for kind in kinds)


def remove(cached: Cached) -> Outcome:
    """Take it away, unless it is in use by now."""
    try:
        with _reserved(cached) as is_free:
            if not is_free:
                return Outcome.IN_USE
            return Outcome.GONE if _delete(Path(cached.path)) else Outcome.STUCK
    except (OSError, NotImplementedError):  # the latter of a disk that has no locks
        return Outcome.STUCK


def _delete(path: Path) -> bool:
    """Raises OSError where nothing was touched; False: a part is left under another name."""
    if not path.name.startswith(PARTIAL):
        aside = path.with_name(f"{PARTIAL}{path.name}-{secrets.token_hex(4)}")
        try:
            path.rename(aside)
        except FileNotFoundError:  # somebody else was faster
            return True
        path = aside
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def _entry(cached: Cached) -> Entry:
    """Whose locks it goes by."""
    path = Path(cached.path)
    if cached.kind != "partial":
        return Entry(path)
    return Entry(path.with_name(path.name.removeprefix(PARTIAL).rpartition("-")[0]))


@contextmanager
def _reserved(cached: Cached) -> Iterator[bool]:
    """Keep others from looking it up or building it meanwhile; False: it is in use.

    Raises OSError, NotImplementedError where it cannot be locked.
    """
    if Path(cached.path).parent.name == ENVIRONMENTS:
        yield not in_use(cached)
        return
    entry = _entry(cached)
    lock = filelock.FileLock(entry.lock_file("lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    try:
        if cached.kind == "partial":
            yield True
            return
        import fcntl

        if not entry.lock_file("used").exists():
            entry.lock_file("used").touch()
            os.utime(entry.lock_file("used"), (cached.used_s, cached.used_s))
        with entry.lock_file("used").open("a") as used:
            try:
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
    finally:
        lock.release()


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock now; False as well where that cannot be found out."""
    import fcntl

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody has ever held it; or it cannot be looked at, and not be removed either
        return False
    return False


def _is_made(environment: Path) -> bool:
    """Whether it is not whole yet; what a removal left of one is no such."""
    if environment.name.startswith(PARTIAL):
        return False
    return environment.is_dir() and not (environment / READY).exists()


def _is_mapped(folder: Path) -> bool:
    """Whether a process that we may look at has a file of the folder in its memory."""
    sought = os.fsencode(folder.resolve()) + b"/"  # as the kernel tells it
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if sought in maps.read_bytes():
                return True
        except OSError:  # it ended, or is somebody else's
            continue
    return False
