"""Who runs this, from which commit, and where is its checkout?"""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def user() -> str:
    """The person, or in GitHub Actions whoever started the job."""
    try:
        return os.environ.get("GITHUB_ACTOR") or getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return f"user {os.getuid()}"


def commit(folder: Path) -> str | None:
    """The commit that is checked out in ``folder``; None where there is no git, or no commit."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()


def checkout(folder: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """The top of what was checked out around ``folder``; without git, ``folder`` itself.

    A job of GitHub Actions shows annotations by their files as seen from its workspace.
    """
    workspace = environment.get("GITHUB_WORKSPACE")
    if workspace and folder.resolve().is_relative_to(Path(workspace).resolve()):
        return Path(workspace)
    for each in (folder, *folder.parents):
        if (each / ".git").exists():
            return each
    return folder
