"""Where are built models kept, and how is each built only once and never found half-written?

An entry is a folder under ``<root>/models``. It is written under another name and renamed when
it is whole, by the process that holds the entry's lock. The lock is the kernel's, so that a
killed holder's lock is free at once and what it left behind is swept by the next.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pytest_llmperf.models.errors import BuildFailed, NoSpace

VARIABLE = "LLMPERF_CACHE"
"""Environment variable that names another root than the user's cache folder."""

LOCKS, PARTIAL = ".locks", ".tmp-"
"""Beside the entries: the folder of their locks, and what begins the name of one in the making."""

_IN_USE: dict[Path, int] = {}
"""Open files of what this process has looked up; the kernel closes them with the process."""

_MARGIN = 64 << 20  # bytes; config, tokenizer, file system blocks
_ASK_AGAIN_S = 1.0


def cache_root() -> Path:
    """Return the folder that everything of ours is cached in."""
    # Here and below: a worker in an environment of its own caches nothing, and has neither.
    import platformdirs

    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_cache_path("pytest-llmperf")


def free_bytes(folder: Path) -> int:
    """Return how many bytes an ordinary user may still write to the disk of ``folder``."""
    return shutil.disk_usage(folder).free


class Entry(msgspec.Struct, frozen=True):
    """The place of one model in the cache, filled or not."""

    folder: Path

    def lock_file(self, kind: str) -> Path:
        """``lock``: held by who builds it; ``used``: shared by all who have looked it up."""
        return self.folder.parent / LOCKS / f"{self.folder.name}.{kind}"

    def hold(self) -> None:
        """Keep it from being pruned as long as this process lives; waits for who prunes it now.

        Does nothing where the cache cannot be written to: nobody prunes it there.
        """
        import fcntl

        path = self.lock_file("used")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if path not in _IN_USE:
                file = os.open(path, os.O_RDWR)
                fcntl.flock(file, fcntl.LOCK_SH)
                _IN_USE[path] = file

    @contextmanager
    def locked(self, timeout_s: float | None, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the entry's lock; ``on_wait`` is called about once a second while another does.

        Raises BuildFailed when ``timeout_s`` seconds were not enough.
        """
        import filelock

        path = self.lock_file("lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        waited = 0.0
        while True:
            patience = _ASK_AGAIN_S if timeout_s is None else min(_ASK_AGAIN_S, timeout_s - waited)
            try:
                lock.acquire(timeout=max(0.0, patience))
                break
            except filelock.Timeout:
                waited += max(0.0, patience)
                on_wait()
            if timeout_s is not None and waited >= timeout_s:
                raise BuildFailed(
                    f"another process has been building {self.folder} for {timeout_s:.0f} s. "
                    "Wait for it, or end it and try again."
                )
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Give an empty folder beside the entry; remove it at the end unless committed.

        Also removes what killed builders of this entry left behind. Call with the lock held.
        """
        prefix = f"{PARTIAL}{self.folder.name}-"
        for left_behind in self.folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder.parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, folder: Path) -> None:
        """Make ``folder`` the entry, in one step; a broken entry in its place is removed."""
        folder.chmod(0o755)
        self.discard()
        folder.rename(self.folder)

    def discard(self) -> None:
        """Remove the entry."""
        shutil.rmtree(self.folder, ignore_errors=True)


def require_space(folder: Path, need: int, free: Callable[[Path], int]) -> None:
    """Raise NoSpace when the disk of ``folder`` has less than ``need`` bytes and a margin."""
    available = free(folder)
    if available < need + _MARGIN:
        raise NoSpace(
            f"{folder} has {available / 2**30:.2f} GiB free and building the model needs about "
            f"{(need + _MARGIN) / 2**30:.2f} GiB. Free some, or name another folder with "
            f"{VARIABLE}=…"
        )
