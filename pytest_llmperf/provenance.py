"""In whose name does a run write? What stands beside everything that it records."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from pytest_llmperf.gate.recording import Act
from pytest_llmperf.options import Settings
from pytest_llmperf.origin import commit, user


def act_of_this_run(settings: Settings, root: Path) -> Act:
    """Who writes the baselines, when, and with which commit checked out under ``root``."""
    now = datetime.datetime.now(datetime.UTC)
    machine = "accepted with --llmperf-accept-machine" if settings.accept_machine else None
    return Act(
        session=f"{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}",
        date=now,
        commit=commit(root),
        by=user(),
        accept=settings.accept,
        accept_all=(settings.accept or machine) if settings.accept_machine else None,
    )
