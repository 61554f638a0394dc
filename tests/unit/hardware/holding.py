"""How does a test have another process hold something?"""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def holder(program: str, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """It runs ``program``, which says what it does and ends when it reads a line."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def says(running: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


def says_nothing(running: subprocess.Popen[str]) -> bool:
    """Whether there is no next line yet, all earlier ones having been read."""
    assert running.stdout is not None
    return not select.select([running.stdout], [], [], 0)[0]
