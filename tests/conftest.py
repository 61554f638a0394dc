"""Where the tests run is no part of what they test."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a job of GitHub Actions, runs that a test starts would write to that job's page."""
    for name in [each for each in os.environ if each.startswith("GITHUB_")]:
        monkeypatch.delenv(name)
