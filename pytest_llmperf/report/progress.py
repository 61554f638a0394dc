"""Where is the run just now? A line that leaves no trace in what tests capture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

EVERY_S = 10.0
"""Without a terminal, a line is printed at most this often."""
_REDRAW_S = 0.1
_CLEAR = "\r\x1b[2K"


class Progress:
    """Rewrites one line on a terminal; elsewhere prints a line now and then."""

    def __init__(self, config: pytest.Config) -> None:
        """In a process without a terminal reporter, such as an xdist worker, it says nothing."""
        self._reporter = config.pluginmanager.get_plugin("terminalreporter")
        self._capture = config.pluginmanager.get_plugin("capturemanager")
        self._shown = False
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Show what is being done."""
        if self._reporter is None:
            return
        now = time.monotonic()
        live = bool(self._reporter.isatty)
        if now - self._last < (_REDRAW_S if live else EVERY_S):
            return
        self._last = now
        if not live:
            self._write(f"\nllmperf: {text}\n")
            return
        lead = "" if self._shown else "\n"
        self._shown = True
        width = max(20, self._reporter._tw.fullwidth - 1)
        self._write(f"{lead}{_CLEAR}llmperf: {text}"[: width + len(lead) + len(_CLEAR)])

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            self._write(f"{_CLEAR}\x1b[1A\x1b[999C")

    def _write(self, text: str) -> None:
        assert self._reporter is not None
        if self._capture is None:
            self._reporter.write(text, flush=True)
            return
        with self._capture.global_and_fixture_disabled():
            self._reporter.write(text, flush=True)
