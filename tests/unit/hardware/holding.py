"""How does a test have another process hold something?"""

from __future__ import annotations

import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENT_S = 120.0


@contextmanager
def holder(program: str, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """It runs ``program``, which says what it does and ends when it reads a line.

    Who says nothing for too long is killed: its next line is empty then.
    """
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as running:
        patience = threading.Timer(PATIENT_S, running.kill)
        patience.start()
        try:
            yield running
        finally:
            patience.cancel()
            running.kill()


def says(running: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


def tells(running: subprocess.Popen[str], line: str) -> None:
    """Write it a line."""
    assert running.stdin is not None
    running.stdin.write(f"{line}\n")
    running.stdin.flush()


def says_nothing(running: subprocess.Popen[str]) -> bool:
    """Whether there is no next line yet, all earlier ones having been read."""
    assert running.stdout is not None
    return not select.select([running.stdout], [], [], 0)[0]
