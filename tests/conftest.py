"""Where the tests run is no part of what they test."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that a test starts are of no job of GitHub Actions, and no worker of pytest-xdist."""
    for name in [each for each in os.environ if each.startswith(("GITHUB_", "PYTEST_XDIST_"))]:
        monkeypatch.delenv(name)
