"""Do the jobs for GitLab and Jenkins end as their tests did, and leave what they file?

Neither system is here: each script runs in a shell as that system starts it, and what would be
installed is there already.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import BLOCKS, steps_of
from tests.github.conftest import TESTS, command

(GITLAB,) = (
    yaml.safe_load(each.text)["llmperf"] for each in BLOCKS if ".gitlab-ci.yml" in each.text
)
(JENKINS,) = (each.text for each in BLOCKS if each.language == "groovy")
EVALUATED = 'set -eo pipefail\n: | eval "$SCRIPT"\nexit 0\n'
"""How GitLab's runner has bash run the lines of a script."""
INSTALLED = Path(sys.executable).parent
PIP = 'echo "$*" >> "$INSTALLED"; exit "${BROKEN:-0}"'
VENV = f"""
[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin"
cp "$(dirname "$0")/pip" "$3/bin"
ln -sf {INSTALLED}/pytest "$3/bin/pytest"
"""
Files = set[str]


class Machine:
    """A checkout with one test, and the shell of a job in it."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.checkout = folder / "work"
        (self.checkout / "tests" / "perf").mkdir(parents=True)
        (self.checkout / "pytest.ini").write_text("[pytest]\n")
        test = self.checkout / "tests" / "perf" / "test_it.py"
        test.write_text(TESTS.replace("LIMIT", str(limit)))
        command(folder / "bin", "pip", PIP)
        command(folder / "bin", "python3", VENV)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(folder / "bin"), str(INSTALLED), os.environ["PATH"]]),
            "INSTALLED": str(folder / "installed"),
            "CI": "true",
        }

    def shell(self, *words: str, **variables: str) -> int:
        """Exit code."""
        environment = {**self.environment, **variables}
        return subprocess.run(words, cwd=self.checkout, env=environment, check=False).returncode

    def gitlab(self) -> int:
        """The job; its exit code."""
        code = self.shell("bash", "-c", EVALUATED, SCRIPT="\n".join(GITLAB["script"]))
        self.shell("bash", "-c", EVALUATED, SCRIPT="\n".join(GITLAB["after_script"]))
        return code

    def jenkins(self) -> int:
        """Its steps until one fails; the exit code of the last."""
        code = 0
        for step in steps_of(JENKINS):
            code = code or self.shell("sh", "-xec", step)
        return code

    def has(self, files: Sequence[str]) -> Files:
        """Those of them that are there."""
        return {each for each in files if (self.checkout / each).exists()}


FILED = re.findall(r"(?:testResults|artifacts): '(.*?)'", JENKINS)


def test_every_step_of_the_pipeline_is_run() -> None:
    assert len(steps_of(JENKINS)) == len(re.findall(r"\bsh\b", JENKINS)) == 3
    assert FILED == ["junit.xml", "llmperf.json"]


@pytest.mark.parametrize(("limit", "code"), [(50, 0), (5000, 1)])
def test_that_of_gitlab(tmp_path: Path, limit: int, code: int) -> None:
    machine = Machine(tmp_path, limit)
    assert machine.gitlab() == code
    files = [*GITLAB["artifacts"]["paths"], GITLAB["artifacts"]["reports"]["junit"]]
    assert machine.has(files) == set(files) == {"llmperf.json", "summary.md", "junit.xml"}
    first, *_ = (machine.checkout / "summary.md").read_text().splitlines()
    assert (
        first == ["## llmperf: green: 1 passed", "## llmperf: 1 of 1 test red: 1 over budget"][code]
    )


@pytest.mark.parametrize(("limit", "code"), [(50, 0), (5000, 1)])
def test_that_of_jenkins(tmp_path: Path, limit: int, code: int) -> None:
    machine = Machine(tmp_path, limit)
    assert machine.jenkins() == code
    assert machine.has(FILED) == set(FILED)
    assert (tmp_path / "installed").read_text() == "install pytest-llmperf[llama-cpp] -e .\n"


def test_a_build_that_breaks_early_files_nothing_of_the_one_before(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 50)
    assert machine.jenkins() == 0
    machine.environment["BROKEN"] = "1"
    assert machine.jenkins() == 1
    assert machine.has(FILED) == set()
