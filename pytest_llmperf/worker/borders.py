"""What is read in the worker at the borders of a request's phases: t_0, t_1 and t_n?

A timed request reads the process's usage, one system call each time. Memory peaks take longer and
have to be reset, so they are read in an extra request that nobody times.
"""

from __future__ import annotations

import os

from pytest_llmperf.worker.messages import PhaseMemory
from pytest_llmperf.worker.peaks import TreeMemory, members, read_tree, reset_peaks
from pytest_llmperf.worker.usage import Usage, read_usage


class Borders:
    """Reads nothing."""

    def __init__(self) -> None:
        self.usage: list[Usage] = []
        """At t_0, t_1 and t_n."""

    def cross(self) -> None:
        """A phase begins or ends now."""

    @property
    def memory(self) -> PhaseMemory | None:
        """The peaks of each phase."""
        return None


class UsageBorders(Borders):
    """Reads the CPU time and page faults of the worker."""

    def cross(self) -> None:
        """Take one reading."""
        usage = read_usage()
        if usage is not None:
            self.usage.append(usage)


class MemoryBorders(Borders):
    """Reads the memory peaks of the worker and its children, and starts new ones."""

    def __init__(self) -> None:
        super().__init__()
        self._phases: list[TreeMemory] = []
        self._began = False
        self._were_reset = True

    def cross(self) -> None:
        """Keep the peaks of the phase that ends, and reset them for the one that begins."""
        pid = os.getpid()
        if self._began:
            self._phases.append(read_tree(pid))
        self._began = True
        self._were_reset &= reset_peaks(members(pid))

    @property
    def memory(self) -> PhaseMemory | None:
        """The peaks of both phases; None when the engine never got that far."""
        if len(self._phases) != 2:
            return None
        prefill, decode = self._phases
        return PhaseMemory(prefill=prefill, decode=decode, were_reset=self._were_reset)
