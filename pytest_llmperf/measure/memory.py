"""How much memory did the worker take, how is that known, and how far off can it be?

The kernel's mark of a process's peak needs no sampling. It is a mark of one process: of a tree the
truth lies between the largest member's peak and the sum of all. Where there is no mark, something
worth less takes its place, and the figure says what.
"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path

import msgspec

from pytest_llmperf.hardware import cgroup, files
from pytest_llmperf.measure.byte_figure import (
    ByteFigure,
    combine,
    figure_of,
    held_now,
    slack_here_bytes,
)
from pytest_llmperf.worker.memory_sampler import Sampler
from pytest_llmperf.worker.messages import PhaseMemory
from pytest_llmperf.worker.peaks import ROOT, TreeMemory, members, read_tree, reset_peaks

_MARK = "PeakWorkingSetSize" if sys.platform == "win32" else "VmHWM"


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """The RAM that a worker and its children took."""

    peak: ByteFigure
    """The most at once, over the load and all requests."""
    load: ByteFigure | None
    """The most up to the end of the load."""
    prefill: ByteFigure | None
    """The most from the request to the first token, in one request that nobody timed."""
    decode: ByteFigure | None
    """The most from there to the last token."""
    anon: ByteFigure | None
    """Private memory at the end; the kernel keeps no peak of it."""
    file: ByteFigure | None
    """Mapped files at the end, such as weights."""
    pss: ByteFigure | None
    """All at the end, pages shared by several processes counted once; None for one process."""
    processes: int
    """How many there were at the end."""
    unknown: dict[str, str]
    """Why a figure is not known, by its name."""


class PeakUnknown(Exception):
    """The system tells no peak at all; the message says what it was asked."""


class Way(Enum):
    """How a peak is taken. The value is what the figure says of it."""

    NEW_MARK = "VmHWM, reset after the load"
    LIFE_MARK = f"{_MARK} over the worker's whole life, because no new mark could be started"
    OWN_WORD = "ru_maxrss over the worker's whole life, as it tells itself"
    GROUP = (
        "peak of the worker's control group, which holds more than the worker: its file cache, "
        "other processes, and what was there before"
    )
    SAMPLES = "sampled every 10 ms from another process, from the end of the load on"


def choose(*, marks: bool, resets: bool, own_word: bool, group: bool) -> Way:
    """The first way that the system allows; what stands further down is worth less.

    ``marks``: every process's mark can be read; ``resets``: and new ones started; ``own_word``:
    a process is told its own (macOS); ``group``: the control group has a peak.
    """
    for way, allowed in (
        (Way.NEW_MARK, marks and resets),
        (Way.LIFE_MARK, marks),
        (Way.OWN_WORD, own_word),
        (Way.GROUP, group),
    ):
        if allowed:
            return way
    return Way.SAMPLES


def group_peak(root: Path = ROOT) -> ByteFigure | None:
    """Of the control group that this process and its children are in; None if none is told.

    Nothing is subtracted: what file cache there was at the peak nobody knows any more, and mapped
    weights are part of it. Pages of files that another group read first are missing.
    Sources: memory.peak in cgroup-v2.rst, max_usage_in_bytes in cgroup-v1/memory.rst.
    """
    for groups, name in (
        (cgroup.v2_groups(root), "memory.peak"),
        (cgroup.v1_groups(root, "memory"), "memory.max_usage_in_bytes"),
    ):
        for group in groups[:1]:
            peak_bytes = files.integer(group / name)
            if peak_bytes is not None:
                return ByteFigure(bytes=peak_bytes, kind="bound", how=Way.GROUP.value)
    return None


class MemoryWatch:
    """The memory of one worker over one measurement. Marks are reset only between requests."""

    def __init__(
        self, pid: int, load: TreeMemory, *, earlier_requests: int = 0, root: Path = ROOT
    ) -> None:
        """``load``: the look at the end of the load, before any mark was reset.

        ``earlier_requests``: what the worker answered before; their leftovers count as well.
        """
        self._pid, self._load, self._root = pid, load, root
        self._looks: list[TreeMemory] = []
        self.way = choose(
            marks=figure_of(read_tree(pid, root=root), "", None) is not None,
            resets=reset_peaks(members(pid, root), root),
            own_word=sys.platform == "darwin",
            group=group_peak(root) is not None,
        )
        self._leftovers = ""
        if earlier_requests:
            self._leftovers = f"; the worker had answered {earlier_requests} requests before"
        self._how = self.way.value + self._leftovers
        self._sampler = self._start_sampler() if self.way is Way.SAMPLES else None

    def _start_sampler(self) -> Sampler | None:
        try:
            return Sampler(self._pid)
        except OSError as error:
            self._how += f", which could not be started ({error})"
            return None

    def keep(self) -> None:
        """Remember the marks so far, because somebody is about to reset them."""
        self._looks.append(read_tree(self._pid, root=self._root))

    def finish(self, phases: PhaseMemory | None) -> MemoryUse:
        """All figures, with the phases of the request that was made for them. Ends the watch.

        Raises PeakUnknown, with the reasons, when nothing tells a peak.
        """
        end = read_tree(self._pid, with_pss=True, root=self._root)
        self._looks.append(end)
        slack = slack_here_bytes(_threads(self._pid, self._root))
        load = figure_of(self._load, f"{_MARK} up to the end of the load", slack)
        prefill = decode = None
        if phases is not None and phases.were_reset and self.way is Way.NEW_MARK:
            prefill = figure_of(phases.prefill, self._how_of("prefill"), slack)
            decode = figure_of(phases.decode, self._how_of("decode"), slack)
        run = self._run(phases, slack)
        stretches = [one for one in (run, load, prefill, decode) if one is not None]
        peak = combine(stretches, max(stretches, key=lambda one: one.bytes).how) if run else None
        if peak is None:
            why = end.why("ended", "process", "peak") or "the system does not tell"
            raise PeakUnknown(f"{why}; nor did another way help, the last was: {self._how}")
        now = "at the end of the last request, not a peak"
        all_now = () if end.why("process") else end.members
        use = MemoryUse(
            peak=peak,
            load=load,
            prefill=prefill,
            decode=decode,
            anon=held_now(
                [one.anon_bytes for one in all_now],
                [one.pss_anon_bytes for one in all_now],
                f"RssAnon {now}",
                slack,
            ),
            file=held_now(
                [one.file_bytes for one in all_now],
                [one.pss_file_bytes for one in all_now],
                f"RssFile {now}",
                slack,
            ),
            pss=_divided(end, f"sum of PSS {now}"),
            processes=len(end.members),
            unknown={},
        )
        return msgspec.structs.replace(use, unknown=self._unknown(use, end, phases))

    def _how_of(self, phase: str) -> str:
        return f"VmHWM, reset before {phase}, in a request of its own{self._leftovers}"

    def _run(self, phases: PhaseMemory | None, slack: int | None) -> ByteFigure | None:
        """The most of all requests; by a way further down where marks were there and are not."""
        if self.way is Way.SAMPLES:
            return self._sampled()
        looks = self._looks
        if self.way is Way.OWN_WORD:
            looks = [] if phases is None else [phases.prefill, phases.decode]
        seen = [figure_of(look, self._how, slack) for look in looks]
        known = [figure for figure in seen if figure is not None]
        if known and len(known) == len(seen):
            largest = max(known, key=lambda figure: figure.bytes)
            return combine(known, largest.how)
        worker_ended = not self._looks[-1].members and self._looks[-1].why("ended")
        return None if worker_ended else group_peak(self._root)

    def _sampled(self) -> ByteFigure | None:
        sampled = None if self._sampler is None else self._sampler.finish()
        if sampled is None:
            return None
        held = [member.rss_bytes for member in self._looks[-1].members]
        return ByteFigure(
            bytes=sampled.most_bytes,
            kind="sampled",
            how=self._how,
            # The sum over several processes counts what they share several times.
            low_bytes=max(held) if len(held) > 1 else None,
        )

    def _unknown(
        self, use: MemoryUse, end: TreeMemory, phases: PhaseMemory | None
    ) -> dict[str, str]:
        reasons = {
            "load": self._load.why("ended", "process", "peak"),
            "prefill": self._why_no_phase(phases, "prefill"),
            "decode": self._why_no_phase(phases, "decode"),
            "anon": end.why("ended", "process", "parts"),
            "file": end.why("ended", "process", "parts"),
            "pss": end.why("ended", "process", "pss"),
        }
        absent = {name for name in reasons if getattr(use, name) is None}
        if use.processes == 1 and not end.troubles:
            absent.discard("pss")
        return {
            name: reason or "the system does not tell"
            for name, reason in reasons.items()
            if name in absent
        }

    def _why_no_phase(self, phases: PhaseMemory | None, phase: str) -> str | None:
        if self.way is not Way.NEW_MARK:
            return f"no marks of a phase: {self.way.value}"
        if phases is None:
            return "no request was made to tell the phases apart"
        if not phases.were_reset:
            return "the worker could not start new marks"
        tree = phases.prefill if phase == "prefill" else phases.decode
        return tree.why("ended", "process", "peak")


def _threads(pid: int, root: Path) -> int | None:
    try:
        return len(list((root / f"proc/{pid}/task").iterdir()))
    except OSError:
        return None


def _divided(tree: TreeMemory, how: str) -> ByteFigure | None:
    """Shared pages counted once; those shared with other programs are counted in part only."""
    shares = [member.pss_bytes for member in tree.members if member.pss_bytes is not None]
    if not shares or len(shares) < len(tree.members):
        return None
    return ByteFigure(bytes=sum(shares), kind="exact", how=how)
