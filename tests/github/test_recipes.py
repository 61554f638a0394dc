"""Are the recipes of docs/ci.md what GitHub and GitLab take, and safe?"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.github.job import ROOT, Job, read
from tests.github.test_lint import check

TEXT = (ROOT / "docs" / "ci.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
GITHUB = [each for each in BLOCKS if "\njobs:" in each]
GITLAB = [each for each in BLOCKS if ".gitlab-ci.yml" in each]


def test_every_block_is_tried() -> None:
    assert (len(GITHUB), len(GITLAB)) == (2, 1)
    assert len(BLOCKS) == 3


def test_those_for_github_are_workflows(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder.parent / "zizmor.yml").write_text((ROOT / ".github" / "zizmor.yml").read_text())
    for number, text in enumerate(GITHUB):
        (folder / f"{number}.yml").write_text(text)
    code, said = check(folder.parent)
    assert code == 0, said


def test_they_give_the_action_inputs_that_it_has() -> None:
    known = read(ROOT / ".github" / "actions" / "llmperf" / "action.yml")["inputs"]
    (used,) = [
        step
        for text in GITHUB
        for job in yaml.safe_load(text)["jobs"].values()
        for step in job["steps"]
        if step.get("uses") == "./.github/actions/llmperf"
    ]
    assert set(used["with"]) <= set(known)
    assert {name for name in known if f"| `{name}` |" in TEXT} == set(known)


def test_what_records_is_not_cancelled_by_the_next_push(tmp_path: Path) -> None:
    (text,) = [each for each in GITHUB if "record:" in each]
    asked = yaml.safe_load(text)["concurrency"]["cancel-in-progress"]
    for event, is_cancelled in (("push", False), ("pull_request", True)):
        assert Job(tmp_path, tmp_path).holds(asked, {"github.event_name": event}) is is_cancelled


@pytest.mark.parametrize("text", GITLAB)
def test_that_for_gitlab_is_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "ci.yml").write_text(text)
    program = Path(sys.executable).with_name("check-jsonschema")
    words = [str(program), "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
    ended = subprocess.run(
        [*words, str(tmp_path / "ci.yml")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout
