"""Who runs this, and from which commit?"""

from __future__ import annotations

import getpass
import os
import subprocess
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
