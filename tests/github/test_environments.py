"""Do the jobs refuse an environment that nobody has restricted?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.github.conftest import command
from tests.github.job import ROOT, Job, read

GH = """
[ "$1" = api ] && file=$ANSWERS/${2//\\//.}
if [ ! -e "$file" ]; then
    printf '{"message":"Not Found","status":"404"}'
    echo "gh: Not Found (HTTP 404)" >&2
    exit 1
fi
[ "$3" = --jq ] && exec jq -r "$4" "$file"
exit 2
"""
"""Stands in for GitHub's own command: answers from files, by jq as gh does; errors as they come."""
GPU = "repos.owner.scratch.environments.gpu"
NIGHT = "repos.owner.scratch.environments.gpu-nightly"
BRANCHES = f"{NIGHT}.deployment-branch-policies"
WAIT = {"id": 1, "type": "wait_timer", "wait_timer": 30}
POLICY = {"id": 2, "type": "branch_policy"}
SOME = {"protected_branches": False, "custom_branch_policies": True}


def reviewed_by(*reviewers: str) -> dict[str, Any]:
    told = [{"type": "User", "reviewer": {"login": login}} for login in reviewers]
    return {"id": 3, "type": "required_reviewers", "reviewers": told}


def asked(folder: Path, file: str, job_name: str, step: str, **answers: object) -> Job:
    """The step of this name, with what GitHub answers."""
    job = Job(folder / "job", folder, contexts={"github.token": "secret"})
    command(job.folder / "bin", "gh", GH)
    (job.folder / "path").write_text(str(job.folder / "bin"))
    job.environment = {"ANSWERS": str(job.folder)}
    for name, answer in answers.items():
        if answer is not None:
            (job.folder / name).write_text(json.dumps(answer))
    steps = read(ROOT / ".github" / "workflows" / file)["jobs"][job_name]["steps"]
    job.steps([each for each in steps if each.get("name") == step], {})
    return job


def refusal(job: Job) -> str | None:
    """The one line of a step that refused; None: it let the job go on, without a word."""
    (ran,) = job.ran
    if ran.exit_code == 0:
        assert ran.output == ""
        return None
    assert ran.exit_code == 1
    (line,) = [each for each in ran.output.splitlines() if each != "gh: Not Found (HTTP 404)"]
    return line


def test_the_steps_that_are_named_are_there() -> None:
    text = (ROOT / "docs" / "ci.md").read_text()
    (step,) = re.findall(r"^6\. (.*?)^7\. ", text, re.DOTALL | re.MULTILINE)
    assert "`gpu` with *Required reviewers*" in step
    assert "*Selected branches and tags*" in step
    assert "**Private repositories**" in text


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({GPU: {"protection_rules": [POLICY, reviewed_by("ann")]}}, None),
        ({GPU: {"protection_rules": [WAIT, POLICY]}}, "has no required reviewers"),
        ({GPU: {"protection_rules": []}}, "has no required reviewers"),
        ({GPU: {"protection_rules": [reviewed_by()]}}, "has no required reviewers"),
        ({GPU: {}}, "has no required reviewers"),
        ({}, "is not there, or cannot be read. Create it with required reviewers."),
    ],
)
def test_a_pull_request_is_measured_only_where_somebody_is_asked(
    tmp_path: Path, answers: dict[str, object], why: str | None
) -> None:
    step = "does the environment ask for a reviewer?"
    job = asked(tmp_path, "gpu.yml", "reviewed", step, **answers)
    line = refusal(job)
    assert (line is None) is (why is None)
    if line is not None:
        assert line.startswith(f"::error::the environment gpu {why}")
        assert "Settings → Environments → gpu → Required reviewers: name who" in line
        assert "(docs/ci.md of pytest-llmperf, step 6)" in line
        assert line.endswith("no such setting: Private repositories, in the same file.")


def policies(*branches: dict[str, str]) -> dict[str, object]:
    return {"total_count": len(branches), "branch_policies": list(branches)}


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({BRANCHES: policies({"name": "main", "type": "branch"})}, None),
        ({BRANCHES: policies({"name": "main"})}, None),
        ({BRANCHES: policies({"name": "main", "type": "tag"})}, "is for: tag main"),
        ({BRANCHES: policies({"name": "*", "type": "branch"})}, "is for: branch *"),
        (
            {BRANCHES: policies({"name": "main"}, {"name": "llmperf/*"})},
            "is for: branch main, branch llmperf/*",
        ),
        ({BRANCHES: policies()}, "is for: no branch"),
        ({}, "is not there, or cannot be read"),
        ({NIGHT: None, BRANCHES: policies({"name": "main"})}, "is not there, or cannot be read"),
        (
            {NIGHT: {"deployment_branch_policy": None}, BRANCHES: policies({"name": "main"})},
            "is not restricted to selected branches",
        ),
        (
            {
                NIGHT: {
                    "deployment_branch_policy": {**SOME, "custom_branch_policies": False},
                },
                BRANCHES: policies({"name": "main"}),
            },
            "is not restricted to selected branches",
        ),
    ],
)
def test_a_night_is_measured_only_where_no_other_branch_may(
    tmp_path: Path, answers: dict[str, object], why: str | None
) -> None:
    answers = {NIGHT: {"deployment_branch_policy": SOME}, **answers}
    step = "is the environment for this branch alone?"
    job = asked(tmp_path, "nightly.yml", "ask", step, **answers)
    line = refusal(job)
    assert (line is None) is (why is None)
    if line is not None:
        assert line == (
            f"::error::the environment gpu-nightly {why}. It must be for the branch main alone: "
            "Settings → Environments → gpu-nightly → Deployment branches and tags "
            "→ Selected branches and tags (docs/ci.md of pytest-llmperf, step 6)"
        )
