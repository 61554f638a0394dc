"""How many bytes, what is the figure worth, and how are several put together?

Of one process the kernel's mark is exact but for its counters. Of a tree the truth lies between the
largest member's peak and the sum of all.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from typing import Literal

import msgspec

from pytest_llmperf.worker.peaks import TreeMemory

Kind = Literal["exact", "bound", "sampled"]
_WORST_LAST: tuple[Kind, ...] = ("exact", "bound", "sampled")


class ByteFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A number of bytes, and what it is worth."""

    bytes: int
    kind: Kind
    """``bound``: the truth is not above ``bytes``; ``sampled``: something may have been missed."""
    how: str
    """How it was taken."""
    low_bytes: int | None = None
    """The truth is not below this; None: not known, or ``bytes`` itself where it is exact."""
    slack_bytes: int | None = None
    """What the kernel's counters may hide, either way; None: not known, or it does not apply."""


def counter_slack_bytes(cpus: int, page_bytes: int) -> int:
    """What the counters of one process's resident pages may hide: max(32, 2·CPUs) pages per CPU.

    A CPU keeps that many pages to itself before it adds them to the common count, which is all
    that a mark is made of. ``cpus``: those online; the others' shares are added when they leave.
    Private, file-backed and shared pages have a counter each, and each can be off by this; all at
    their limit on all CPUs at once is not to be expected. Source: compute_batch_value and
    percpu_counter_cpu_dead in lib/percpu_counter.c; since Linux 6.2.
    """
    return max(32, 2 * cpus) * cpus * page_bytes


def slack_here_bytes(threads: int | None, release: str = platform.release()) -> int | None:
    """The slack of one process on this machine; None where it is not known.

    ``threads``: of the process, None: not known. Before Linux 6.2 each thread kept up to 64 pages
    to itself (TASK_RSS_EVENTS_THRESH in mm/memory.c); how many threads there were at the peak
    nobody knows any more, so that those of now stand in for them. ``release``: of the kernel.
    """
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if sys.platform != "linux" or numbers is None:
        return None
    page_bytes = os.sysconf("SC_PAGESIZE")
    if (int(numbers[1]), int(numbers[2])) < (6, 2):
        return None if threads is None else 64 * threads * page_bytes
    return counter_slack_bytes(os.sysconf("SC_NPROCESSORS_ONLN"), page_bytes)


def figure_of(tree: TreeMemory, how: str, slack_bytes: int | None) -> ByteFigure | None:
    """The peak of a process tree; None if the peak of a member that lives is not known.

    ``slack_bytes``: of one process. Two processes that peak apart took the larger of their peaks,
    two that peak together and share nothing took the sum. What they hold at the look, shared
    pages divided, was held at once, too.
    """
    peaks = [member.peak_bytes for member in tree.members if member.peak_bytes is not None]
    if not peaks or len(peaks) < len(tree.members) or tree.why("process"):
        return None
    ended = sum(trouble.what == "ended" for trouble in tree.troubles)
    if ended:
        how += f"; {ended} of its processes ended unread"
    if len(peaks) > 1:
        how += f"; {len(peaks)} processes"
    shares = [member.pss_bytes or 0 for member in tree.members]
    alone = len(peaks) == 1 and not ended
    return ByteFigure(
        bytes=sum(peaks),
        kind="sampled" if ended else "exact" if alone else "bound",
        how=how,
        low_bytes=None if alone else min(sum(peaks), max(*peaks, sum(shares))),
        slack_bytes=None if slack_bytes is None else slack_bytes * len(peaks),
    )


def combine(figures: Sequence[ByteFigure], how: str) -> ByteFigure | None:
    """The peak over several stretches of time; None of none.

    A stretch that was certainly lower than another one does not make the whole less certain.
    """
    if not figures:
        return None
    low = max(_least(figure) for figure in figures)
    decisive = [one for one in figures if one.bytes >= low or one.kind == "sampled"]
    kind = max((figure.kind for figure in decisive), key=_WORST_LAST.index)
    return ByteFigure(
        bytes=max(figure.bytes for figure in figures),
        kind=kind,
        how=how,
        low_bytes=None if kind == "exact" or low == 0 else low,
        slack_bytes=max((one.slack_bytes for one in decisive if one.slack_bytes), default=None),
    )


def _least(figure: ByteFigure) -> int:
    return figure.bytes if figure.kind == "exact" else figure.low_bytes or 0


def held_now(
    resident: Sequence[int | None],
    shares: Sequence[int | None],
    how: str,
    slack_bytes: int | None,
) -> ByteFigure | None:
    """What several processes hold together, of one sort of memory; None if one is not known.

    ``resident``: of each, with all that it shares; the sum counts shared pages several times.
    ``shares``: of each, shared pages divided among all who map them; the sum lacks what falls to
    processes outside of the tree.
    """
    whole = [one for one in resident if one is not None]
    if not whole or len(whole) < len(resident):
        return None
    high = sum(whole)
    slack_bytes = None if slack_bytes is None else slack_bytes * len(whole)
    if len(whole) == 1:
        return ByteFigure(bytes=high, kind="exact", how=how, slack_bytes=slack_bytes)
    divided = [one for one in shares if one is not None]
    low = sum(divided) if len(divided) == len(whole) else max(whole)
    return ByteFigure(
        bytes=high,
        kind="bound",
        how=f"{how}; {len(whole)} processes",
        low_bytes=min(low, high),
        slack_bytes=slack_bytes,
    )
