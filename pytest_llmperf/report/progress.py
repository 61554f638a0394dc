"""Where is the run just now? A line that leaves no trace in what tests capture."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

EVERY_S = 10.0
"""Without a terminal, a line is printed at most this often."""
_REDRAW_S = 0.1
CLEAR = "\r\x1b[2K"


class Progress:
    """Rewrites one line on a terminal; elsewhere prints a line now and then."""

    def __init__(self, config: pytest.Config) -> None:
        """In a process without a terminal reporter, such as an xdist worker, it says nothing."""
        self._plugins = config.pluginmanager
        self._shown = False
        self._printed = time.monotonic()
        self._drawn = 0.0

    @property
    def _reporter(self) -> pytest.TerminalReporter | None:
        # Asked for when needed: pytest makes it last of all.
        reporter: pytest.TerminalReporter | None = self._plugins.get_plugin("terminalreporter")
        return reporter

    def say(self, text: str) -> None:
        """Show what is being done."""
        reporter = self._reporter
        if reporter is None:
            return
        now = time.monotonic()
        if not reporter.isatty:
            if now - self._printed >= EVERY_S:
                self._printed = now
                with self._uncaptured():
                    reporter.ensure_newline()
                    reporter.write(f"llmperf: {text}\n", flush=True)
            return
        if now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        lead = "" if self._shown else "\n"
        self._shown = True
        width = max(20, reporter._tw.fullwidth - 1)
        self._draw(f"{lead}{CLEAR}{f'llmperf: {text}'[:width]}")

    def clear(self) -> None:
        """Take the line away and go back to where pytest was writing."""
        reporter = self._reporter
        if self._shown and reporter is not None:
            self._shown = False
            column = reporter._tw.width_of_current_line
            back = f"\x1b[{column}C" if column else ""
            self._draw(f"{CLEAR}\x1b[1A\r{back}")

    def _draw(self, text: str) -> None:
        """Write past pytest's own count of columns, which must not know of the line."""
        reporter = self._reporter
        assert reporter is not None
        with self._uncaptured():
            reporter._tw._file.write(text)
            reporter._tw._file.flush()

    def _uncaptured(self) -> contextlib.AbstractContextManager[None]:
        capture = self._plugins.get_plugin("capturemanager")
        if capture is None:
            return contextlib.nullcontext()
        uncaptured: contextlib.AbstractContextManager[None]
        uncaptured = capture.global_and_fixture_disabled()
        return uncaptured
