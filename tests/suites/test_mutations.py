"""Does a suite fail when its technique is off, or its effect reversed?

Real engines on small models: some minutes in all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suites.mutations import VARIABLE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("suite", "mutation", "tests", "failed"),
    [
        ("quantization_gguf", "all levels are F16", "fewer_bits or (says and Q4_0)", 2),
        ("quantization_gguf", "levels are swapped", "says and Q8_0", 1),
        ("quantization_gguf", "all levels are F16", "smaller", 1),
    ],
)
def test_a_mutation_is_caught(
    suite: str, mutation: str, tests: str, failed: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pytest", "--llmperf", f"--llmperf-suite={suite}"]
    command += ["-p", "tests.suites.mutations", "-k", tests, "--llmperf-history=off"]
    variables = {**os.environ, VARIABLE: mutation, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}"],
        cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    told = re.search(r"(\d+) failed", done.stdout)
    assert told is not None, done.stdout + done.stderr
    assert int(told[1]) == failed, done.stdout
    assert "error" not in done.stdout.splitlines()[-1]
