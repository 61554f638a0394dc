"""Who runs this, when, and from which commit? What stands beside everything that is written."""

from __future__ import annotations

import datetime
import getpass
import os
import subprocess
from pathlib import Path

from pytest_llmperf.gate.recording import Act
from pytest_llmperf.options import Settings


def act_of_this_run(settings: Settings, root: Path) -> Act:
    """Who writes the baselines, when, and with which commit checked out under ``root``."""
    now = datetime.datetime.now(datetime.UTC)
    machine = "accepted with --llmperf-accept-machine" if settings.accept_machine else None
    return Act(
        session=f"{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}",
        date=now,
        commit=_commit(root),
        by=os.environ.get("GITHUB_ACTOR") or _user(),
        accept=settings.accept,
        accept_all=(settings.accept or machine) if settings.accept_machine else None,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return str(os.getuid())


def _commit(root: Path) -> str | None:
    """The commit that is checked out; None where there is no git, or no commit."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()
