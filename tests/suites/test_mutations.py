"""Does each suite fail when its technique is off, or its effect reversed?

Real engines on small models: `make suites` runs them all, `make heavy` those that take seconds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suites.mutation import Mutation, find_mutations
from tests.suites.spoiler import VARIABLE

ROOT = Path(__file__).parents[2]
FOUND = find_mutations()
EXPECTATION = re.compile(
    r"AssertionError|assert |[\w.]*MetricAbsent|Failed: (perf (budget|comparison) broken|"
    r"DID NOT RAISE|measure: against=.* is the model itself)"
)
"""What a test says whose claim does not hold; anything else is a test that did not get so far."""
CASES = [
    pytest.param(name, marks=[pytest.mark.engine, *([pytest.mark.quick] if each.quick else [])])
    for name, each in FOUND.items()
]


def given(mutation: Mutation) -> list[str]:
    """Its words for pytest, with what the environment has of them."""
    words = [os.path.expandvars(word) for word in mutation.arguments]
    for word in words:
        if "$" in word:
            pytest.skip(f"{word.partition('$')[2]} is not set")
    return words


@pytest.mark.parametrize("name", CASES)
def test_a_spoiled_suite_fails(name: str, tmp_path: Path) -> None:
    mutation = FOUND[name]
    suite = name.partition(":")[0]
    command = [sys.executable, "-m", "pytest", "--llmperf", f"--llmperf-suite={suite}"]
    command += ["-p", "tests.suites.spoiler", "-k", mutation.tests, "--llmperf-history=off"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", *given(mutation)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500,
        env={**os.environ, VARIABLE: name, "PYTHONPATH": str(ROOT), "CI": "whole reasons"},
    )  # fmt: skip
    last = (done.stdout.splitlines() or [""])[-1]
    told = re.search(r"(\d+) failed", last)
    assert told is not None, done.stdout + done.stderr
    assert int(told[1]) == mutation.failed, done.stdout
    assert "passed" not in last, last
    assert "error" not in last, last
    unlike = [each for each in reasons(done.stdout) if not EXPECTATION.match(each)]
    assert not unlike, f"failed of something else: {unlike}"


def reasons(said: str) -> list[str]:
    """Why each test failed: the first line of what the summary tells."""
    lines = [line for line in said.splitlines() if line.startswith("FAILED ")]
    return [line.partition(" - ")[2] for line in lines]


def test_every_suite_has_a_mutation() -> None:
    suites = {path.stem.removeprefix("test_") for path in (ROOT / "suites").glob("test_*.py")}
    spoiled = {name.partition(":")[0] for name in FOUND}
    assert suites - {"smoke"} == spoiled
