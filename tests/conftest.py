"""Where the tests run is no part of what they test."""

from __future__ import annotations

import os
import signal

import pytest


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that a test starts are of no job of GitHub Actions, and no worker of pytest-xdist."""
    for name in [each for each in os.environ if each.startswith(("GITHUB_", "PYTEST_XDIST_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def hears_sigint() -> None:
    """A shell's ``&`` makes what it starts deaf to SIGINT, and so what that starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
