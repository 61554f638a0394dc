"""In which phase is a worker, and at which token? A page of memory that both sides see.

The worker only stores integers in it, which costs nanoseconds and needs no message; the host can
read it when the worker can say nothing any more.
"""

from __future__ import annotations

import enum
import mmap
from collections.abc import MutableSequence
from pathlib import Path
from typing import cast

_SLOTS = 2
_PHASE = 1  # slot 0 is backends.timeline.TOKENS_MARK


class Phase(enum.IntEnum):
    """What the worker was last told to do, or began by itself."""

    START = 0
    IMPORT = 1
    LOAD = 2
    IDLE = 3
    GENERATE = 4
    CLOSE = 5


class Board:
    """Shared integers backed by a file in the run's folder."""

    def __init__(self, path: Path, *, create: bool) -> None:
        if create:
            path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._view = memoryview(self._map).cast("q")[:_SLOTS]
        # A memoryview of fixed length is all of a mutable sequence but insert and delete.
        self.marks = cast("MutableSequence[int]", self._view)

    @property
    def phase(self) -> Phase:
        """The phase last stored. Raises ValueError when the worker wrote nonsense here."""
        return Phase(self.marks[_PHASE])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self.marks[_PHASE] = phase

    def describe(self) -> str:
        """The phase in the words of a report: import, load, prefill, decode."""
        try:
            phase = self.phase
        except ValueError:
            return "an unknown phase (the worker overwrote its mark)"
        if phase is Phase.GENERATE:
            tokens = self.marks[0]
            counted = f"{tokens} token{'' if tokens == 1 else 's'}"
            return f"decode (after {counted})" if tokens else "prefill"
        return {
            Phase.START: "start",
            Phase.IMPORT: "import",
            Phase.LOAD: "load",
            Phase.IDLE: "waiting for work",
            Phase.CLOSE: "closing",
        }[phase]

    def close(self) -> None:
        """Let go of the page."""
        self._view.release()
        self._map.close()
