"""What would the processes of an engine leave in shared memory if they were killed?

Python's multiprocessing names its memory (``psm_…``) and semaphores (``sem.mp-…``) in ``/dev/shm``
and removes the names when it leaves well. Once everybody has mapped them, nobody needs the names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_SHARED = Path("/dev/shm")  # noqa: S108 - nothing is created there
_NAMED = ("psm_", "sem.mp-")


def forget_shared_names(pids: Iterable[int], shared: Path = _SHARED) -> None:
    """Unlink what these processes have mapped; they keep it. Linux only: elsewhere does nothing."""
    mapped = {place for pid in pids for place in _mapped(pid)}
    for path in shared.iterdir() if shared.is_dir() else ():
        with contextlib.suppress(FileNotFoundError, PermissionError):  # gone, or not ours
            if path.name.startswith(_NAMED) and _place(path.stat()) in mapped:
                path.unlink()


def group_of(leader: int) -> list[int]:
    """Process ids of a group's members; empty where there is no /proc."""
    members = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(int(each.name)) == leader:
                members.append(int(each.name))
    return members


def _mapped(pid: int) -> Iterable[tuple[str, str]]:
    """Device and inode of each file in memory: of a semaphore, the name there is another one."""
    with contextlib.suppress(
        FileNotFoundError, ProcessLookupError, PermissionError
    ):  # it ended, or is not ours
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return {(fields[3], fields[4]) for fields in map(str.split, lines)}
    return ()


def _place(stat: os.stat_result) -> tuple[str, str]:
    """As the kernel writes it (proc_pid_maps(5))."""
    return f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}", str(stat.st_ino)
