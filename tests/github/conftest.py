"""A scratch checkout, and a job of GitHub Actions around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.github.job import Job
from tests.plugin.conftest import PREAMBLE

TESTS = (
    PREAMBLE
    + """
@pytest.mark.perf(min_tps=LIMIT)
def test_chat(load_model, measure):
    measure(load(load_model), prompt_tokens=8, new_tokens=8)
"""
)


class Used:
    """Stands in for the actions that are used: remembers what each was given."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, str]]] = []

    def __call__(self, name: str, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """One more; what was uploaded has a number."""
        self.told.append((name, inputs))
        return {"artifact-id": "9"} if name == "actions/upload-artifact" else {}

    @property
    def names(self) -> list[str]:
        """In the order in which they were used."""
        return [name for name, _ in self.told]


@pytest.fixture
def used() -> Used:
    return Used()


@pytest.fixture
def job(tmp_path: Path, used: Used) -> Job:
    """A job whose checkout has one test, which is green."""
    checkout = tmp_path / "work"
    checkout.mkdir()
    (checkout / "pytest.ini").write_text("[pytest]\n")
    (checkout / "test_it.py").write_text(TESTS.replace("LIMIT", "50"))
    return Job(
        tmp_path / "job",
        checkout,
        environment={"LLMPERF_HISTORY": "off", "XDG_STATE_HOME": str(tmp_path / "state")},
        contexts={"github.run_id": "7", "github.run_attempt": "1", "github.token": "secret"},
        stand_in=used,
    )


def command(folder: Path, name: str, script: str) -> None:
    """A program of this name that a step finds before others of it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)
