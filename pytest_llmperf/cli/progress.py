"""What is being done now, while the user waits?"""

from __future__ import annotations

import sys
import time

from pytest_llmperf.cli.answer import complain
from pytest_llmperf.report.progress import CLEAR, EVERY_S

_COLUMNS = 79


class Progress:
    """Rewrites one line on a terminal; elsewhere prints a line now and then. On stderr."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._printed_s = time.monotonic()

    def __call__(self, text: str) -> None:
        """Show what is being done; nothing: take the line away."""
        if sys.stderr.isatty():
            sys.stderr.write(f"{CLEAR}{text[:_COLUMNS]}")
            sys.stderr.flush()
        elif text and time.monotonic() - self._printed_s >= EVERY_S:
            self._printed_s = time.monotonic()
            complain(f"{self._command}: {text}")
