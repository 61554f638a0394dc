"""Do the checks of `make lint` find a planted fault in a workflow or an action?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.github.job import ROOT

CUT = re.DOTALL | re.MULTILINE
CI, ACTION = "workflows/ci.yml", "actions/llmperf/action.yml"


def check(folder: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output of the checks on a folder."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ended = subprocess.run(
        [str(ROOT / "tools" / "check_workflows"), str(folder)],
        env={**os.environ, "PATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of our own."""
    return Path(shutil.copytree(ROOT / ".github", tmp_path / ".github"))


def test_ours_are_clean(folder: Path) -> None:
    code, said = check(folder)
    assert code == 0, said


def test_what_a_private_repository_may_delete_leaves_sound_workflows(folder: Path) -> None:
    gpu, nightly = folder / "workflows" / "gpu.yml", folder / "workflows" / "nightly.yml"
    without = re.sub(r"  # An environment that.*?(?=^  measure:)", "", gpu.read_text(), flags=CUT)
    gpu.write_text(without.replace("    needs: reviewed\n", ""))
    step = r"      - name: is the environment for.*?(?=^      - name: is a proposal)"
    nightly.write_text(re.sub(step, "", nightly.read_text(), flags=CUT))
    assert "reviewed" not in gpu.read_text()
    assert "refuse" not in nightly.read_text()
    code, said = check(folder)
    assert code == 0, said


@pytest.mark.parametrize(
    ("file", "sound", "faulty", "checks", "why"),
    [
        (
            CI,
            'exec make "$TARGET"',
            "make ${{ github.head_ref }}",
            "zizmor actionlint",
            "injection",
        ),
        (ACTION, "exec python -m pip install", "echo ${{ inputs.install }}", "zizmor", "injection"),
        (CI, "@08c6903cd8c0fde910a37f88322edcfb5dd907a8", "@v5", "zizmor", "unpinned-uses"),
        (ACTION, "@0057852bfaa89a56745cba8c7296529d2fc39830", "@v4", "zizmor", "unpinned-uses"),
        (CI, "persist-credentials: false", "fetch-depth: 1", "zizmor", "artipacked"),
        (CI, "  pull_request:\n", "  pull_request_target:\n", "zizmor", "dangerous-triggers"),
        (CI, "runs-on:", "run-on:", "workflows-schema workflows-timeout actionlint", "run-on"),
        (CI, "    timeout-minutes: 120\n", "", "workflows-timeout", "timeout-minutes"),
        (ACTION, "using: composite", "using: composit", "actions-schema", "composit"),
        (CI, "matrix.target", "matrix.targets", "actionlint", "targets"),
    ],
)
def test_a_planted_fault_is_found(
    folder: Path, file: str, sound: str, faulty: str, checks: str, why: str
) -> None:
    text = (folder / file).read_text()
    assert sound in text
    (folder / file).write_text(text.replace(sound, faulty))
    code, said = check(folder)
    assert code == 1
    assert said.splitlines()[-1] == f"failed: {checks}", said
    assert why in said


def test_without_node_it_says_what_to_install(folder: Path, tmp_path: Path) -> None:
    for name in ("bash", "dirname", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    code, said = check(folder, PATH=str(tmp_path))
    assert code == 4
    assert "apt-get install nodejs npm" in said
