"""How much memory has a process tree taken since the last look?

Linux keeps a mark of the most resident memory of each process (VmHWM) and lets its owner start a
new one, so nothing can hide between two looks. The worker does this to itself where a phase ends,
and we do it to the worker.

A process that is born and dies between the reset and the look is not seen, nor is one whose parent
died and left it to init. One that is born after the reset counts with the peak of its whole life.
Sources: proc_pid_status(5), proc_pid_clear_refs(5), proc_pid_smaps(5).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

ROOT = Path("/")
_NEW_MARK = b"5"
"""What clear_refs takes for "reset the peak resident set size to the current one"."""
_ENDED = "it ended before it could be read"

What = Literal["ended", "process", "peak", "parts", "pss"]


class ProcessMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What one process holds in RAM, in bytes; None: not told, or not asked for."""

    pid: int
    peak_bytes: int | None
    """The most it held at once since its mark was last reset (VmHWM)."""
    rss_bytes: int
    """What it holds now, pages that it shares with others included."""
    anon_bytes: int | None
    """Of that, private memory: written pages that no file stands behind."""
    file_bytes: int | None
    """Of that, mapped files."""
    shmem_bytes: int | None
    """Of that, shared memory."""
    pss_bytes: int | None = None
    """What it holds now, each page divided by the number of processes that map it."""
    pss_anon_bytes: int | None = None
    """Of that, private memory."""
    pss_file_bytes: int | None = None
    """Of that, mapped files."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Something about one process that could not be read."""

    pid: int
    what: What
    """``ended``: it left before the look; ``process``: it lives, but nothing is told of it."""
    why: str


class TreeMemory(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a process and all its live descendants."""

    members: list[ProcessMemory]
    troubles: list[Trouble]

    def why(self, *what: str) -> str | None:
        """The troubles of these kinds in words; None without any."""
        told = [f"process {one.pid}: {one.why}" for one in self.troubles if one.what in what]
        return "; ".join(told) or None


def members(pid: int, root: Path = ROOT) -> list[int]:
    """``pid`` and all its live descendants, ``pid`` first; it alone if it is no more."""
    if sys.platform != "linux":
        return [pid, *_descendants_elsewhere(pid)]
    found = [pid]
    by_parent: dict[int, list[int]] | None = None
    for each in found:
        children = _children(each, root)
        if children is None:
            by_parent = _children_by_parent(root) if by_parent is None else by_parent
            children = by_parent.get(each, [])
        found += [child for child in children if child not in found]
    return found


def reset_peaks(pids: Iterable[int], root: Path = ROOT) -> bool:
    """Start a new mark in each of the processes; False where one that lives keeps its old one."""
    if sys.platform != "linux":
        return False
    refused = 0
    for pid in pids:
        try:
            descriptor = os.open(_proc(pid, "clear_refs", root), os.O_WRONLY)
            try:
                os.write(descriptor, _NEW_MARK)
            finally:
                os.close(descriptor)
        except OSError as error:
            refused += not _has_ended(pid, error, root)
    return refused == 0


def read_tree(pid: int, with_pss: bool = False, root: Path = ROOT) -> TreeMemory:
    """Look at ``pid`` and its descendants. What cannot be read becomes a trouble; raises nothing.

    ``with_pss``: also what they hold with shared pages divided, if they are several; the kernel
    walks their page tables for it, 35 ms at 4 GiB.
    """
    look = _Look(root)
    pids = members(pid, root)
    for each in pids:
        if sys.platform == "linux":
            look.at(each, with_pss and len(pids) > 1)
        else:
            look.at_elsewhere(each)
    return TreeMemory(members=look.found, troubles=look.troubles)


class _Look:
    """Reads one process after another, and notes what was not told."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.found: list[ProcessMemory] = []
        self.troubles: list[Trouble] = []

    def at(self, pid: int, with_pss: bool) -> None:
        """Read one process from /proc."""
        status = self._text(pid, "status", "process")
        if status is None:
            return
        sizes = _sizes(status)
        if "VmRSS" not in sizes:
            # One that ended and waits for its parent has no memory any more, and no mark either.
            ended = "\nState:\tZ" in status or "\nState:\tX" in status
            self._miss(
                pid,
                "ended" if ended else "process",
                _ENDED if ended else "the kernel tells no VmRSS",
            )
            return
        self._expect(pid, "peak", sizes, "VmHWM")
        self._expect(pid, "parts", sizes, "RssAnon", "RssFile", "RssShmem")
        rollup = self._text(pid, "smaps_rollup", "pss") if with_pss else None
        shares = _sizes(rollup or "")
        if rollup is not None:
            self._expect(pid, "pss", shares, "Pss", "Pss_Anon", "Pss_File")
        self.found.append(
            ProcessMemory(
                pid=pid,
                peak_bytes=sizes.get("VmHWM"),
                rss_bytes=sizes["VmRSS"],
                anon_bytes=sizes.get("RssAnon"),
                file_bytes=sizes.get("RssFile"),
                shmem_bytes=sizes.get("RssShmem"),
                pss_bytes=shares.get("Pss"),
                pss_anon_bytes=shares.get("Pss_Anon"),
                pss_file_bytes=shares.get("Pss_File"),
            )
        )

    def at_elsewhere(self, pid: int) -> None:
        """Read one process on macOS or Windows. Unproven: written from their manuals.

        Windows keeps a peak that nobody can reset (PeakWorkingSetSize). macOS tells a process
        about its own (ru_maxrss, in bytes), and nobody else.
        """
        import psutil  # only here: Linux needs no help

        try:
            info = psutil.Process(pid).memory_info()
        except psutil.NoSuchProcess:
            self._miss(pid, "ended", _ENDED)
            return
        except psutil.Error as error:
            self._miss(pid, "process", str(error))
            return
        peak: int | None = getattr(info, "peak_wset", None)
        if sys.platform == "darwin" and pid == os.getpid():
            import resource  # not there on Windows

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if peak is None:
            self._miss(pid, "peak", "the system tells a process's peak to nobody but itself")
        self._miss(pid, "parts", "the system does not tell private memory from mapped files")
        self.found.append(
            ProcessMemory(
                pid=pid,
                peak_bytes=peak,
                rss_bytes=info.rss,
                anon_bytes=None,
                file_bytes=None,
                shmem_bytes=None,
            )
        )

    def _text(self, pid: int, name: str, what: What) -> str | None:
        try:
            return _proc(pid, name, self._root).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            if _has_ended(pid, error, self._root):
                self._miss(pid, "ended", _ENDED)
            else:
                self._miss(pid, what, f"its {name} cannot be read: {error.strerror}")
        return None

    def _expect(self, pid: int, what: What, sizes: dict[str, int], *names: str) -> None:
        lacking = [name for name in names if name not in sizes]
        if lacking:
            self._miss(pid, what, f"the kernel tells no {', '.join(lacking)}")

    def _miss(self, pid: int, what: What, why: str) -> None:
        self.troubles.append(Trouble(pid=pid, what=what, why=why))


def _children(pid: int, root: Path) -> list[int] | None:
    """Live children of all threads of a process; None where the kernel lists none at all."""
    first = _proc(pid, f"task/{pid}/children", root)
    try:
        first.read_text()
    except OSError as error:
        return [] if _has_ended(pid, error, root) else None
    found: list[int] = []
    for path in first.parent.parent.glob("*/children"):
        try:
            found += [int(word) for word in path.read_text().split()]
        except OSError:  # the thread ended, and left its children to another one
            continue
    return found


def _children_by_parent(root: Path) -> dict[int, list[int]]:
    """Every process that can be seen, by its parent (the fourth field of proc_pid_stat(5))."""
    found: dict[int, list[int]] = {}
    for path in (root / "proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # it ended, or is nobody's business
            continue
        # The second field, a name in brackets, may hold anything.
        fields = text.rpartition(")")[2].split()
        if len(fields) > 1 and fields[1].isdecimal():
            found.setdefault(int(fields[1]), []).append(int(path.parent.name))
    return found


def _descendants_elsewhere(pid: int) -> list[int]:
    import psutil  # only here: Linux needs no help

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _has_ended(pid: int, error: OSError, root: Path) -> bool:
    """Whether ``error`` came because the process is no more, not because something is refused."""
    if isinstance(error, ProcessLookupError):
        return True
    return isinstance(error, FileNotFoundError) and not _proc(pid, "", root).exists()


def _proc(pid: int, name: str, root: Path) -> Path:
    return root / "proc" / str(pid) / name


def _sizes(text: str) -> dict[str, int]:
    """Lines of the form ``VmHWM:  123 kB`` as name → bytes."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdecimal():
            found[name] = int(words[0]) * 1024
    return found
