"""Which process is this, also after its number was given to another one?"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is known by."""

    pid: int
    start_ticks: int | None
    """Start time of the process in clock ticks since boot; None where /proc does not tell."""
    boot_id: str | None

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs; a zombie counts as dead."""
        now = identify(self.pid)
        if now.start_ticks is None:
            return self.start_ticks is None and _answers(self.pid)
        return now == self and _state(self.pid) not in {"Z", "X"}


def identify(pid: int) -> Identity:
    """Pid, start time and boot id of a process, as far as the system tells."""
    try:
        # The start time is field 22, and the state field 3.
        start_ticks: int | None = int(_fields(pid)[19])
        boot_id: str | None = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        start_ticks = boot_id = None
    return Identity(pid=pid, start_ticks=start_ticks, boot_id=boot_id)


def _fields(pid: int) -> list[str]:
    """Fields 3 and on. The command's name before them, in parentheses, may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _state(pid: int) -> str:
    try:
        return _fields(pid)[0]
    except OSError:
        return "X"


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
