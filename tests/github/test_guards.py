"""Are the workflows as guarded as docs/ci.md says, and each on its right machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.github.job import ROOT, Job, read

READ = {"contents": "read"}
WITHOUT_CUDA = "https://download.pytorch.org/whl/cpu"


def workflow(name: str) -> dict[str, Any]:
    return read(ROOT / ".github" / "workflows" / name)


def test_a_runner_without_a_gpu_loads_no_cuda() -> None:
    told = workflow("ci.yml")["jobs"]["test"]
    assert told["env"] == {"PIP_EXTRA_INDEX_URL": WITHOUT_CUDA}
    assert told["runs-on"] == "ubuntu-24.04"


def test_a_night_waits_for_no_reviewer() -> None:
    """A pull request does: of its environment docs/ci.md requires it."""
    assert workflow("gpu.yml")["jobs"]["measure"]["environment"] == "gpu"
    assert workflow("nightly.yml")["jobs"]["measure"]["environment"] == "gpu-nightly"
    told = (ROOT / "docs" / "ci.md").read_text()
    assert "`gpu` with *Required reviewers*" in told
    assert "`gpu-nightly`, without reviewers" in told


@pytest.mark.parametrize(
    ("event", "head", "begins"),
    [
        ("pull_request", "stranger/scratch", False),
        ("pull_request", "", False),
        ("pull_request", "owner/scratch", True),
        ("workflow_dispatch", "", True),
    ],
)
def test_a_forks_pull_request_does_not_reach_the_machine(
    tmp_path: Path, event: str, head: str, begins: bool
) -> None:
    told = {
        "github.event_name": event,
        "github.event.pull_request.head.repo.full_name": head,
        "github.repository": "owner/scratch",
    }
    job, jobs = Job(tmp_path, tmp_path, contexts=told), workflow("gpu.yml")["jobs"]
    assert job.holds(jobs["reviewed"]["if"]) is job.holds(jobs["measure"]["if"]) is begins
    assert jobs["measure"]["needs"] == "reviewed"


@pytest.mark.parametrize(
    ("event", "kind", "branch", "default", "begins"),
    [
        ("workflow_dispatch", "branch", "main", "main", True),
        ("workflow_dispatch", "branch", "feature", "main", False),
        ("workflow_dispatch", "tag", "main", "main", False),
        ("schedule", "branch", "main", "", True),
    ],
)
def test_a_night_is_of_the_main_branch(
    tmp_path: Path, event: str, kind: str, branch: str, default: str, begins: bool
) -> None:
    """A schedule tells nothing of the repository: github/codeql-action#1211."""
    told = {
        "github.event_name": event,
        "github.ref_type": kind,
        "github.ref_name": branch,
        "github.event.repository.default_branch": default,
    }
    jobs = workflow("nightly.yml")["jobs"]
    assert Job(tmp_path, tmp_path, contexts=told).holds(jobs["ask"]["if"]) is begins
    assert jobs["measure"]["needs"] == "ask"
    assert "if" not in jobs["measure"], "a condition could begin it where the other was skipped"


@pytest.mark.parametrize(
    ("name", "events", "permissions"),
    [
        ("ci.yml", {"push", "pull_request"}, {"test": READ}),
        (
            "gpu.yml",
            {"pull_request", "workflow_dispatch"},
            {
                "reviewed": {"actions": "read"},
                "measure": READ,
                "comment": {"actions": "read", **READ, "pull-requests": "write"},
            },
        ),
        (
            "nightly.yml",
            {"schedule", "workflow_dispatch"},
            {
                "ask": {"actions": "read", "pull-requests": "read"},
                "measure": READ,
                "propose": {"actions": "read", "contents": "write", "pull-requests": "write"},
            },
        ),
    ],
)
def test_the_machine_cannot_write_and_who_writes_is_not_the_machine(
    name: str, events: set[str], permissions: dict[str, dict[str, str]]
) -> None:
    told = workflow(name)
    assert set(told[True]) == events  # type: ignore[index] # YAML takes "on" for a truth value
    assert told["permissions"] == READ
    jobs = told["jobs"]
    assert {key: job.get("permissions", READ) for key, job in jobs.items()} == permissions
    ours = {key for key, job in jobs.items() if "self-hosted" in job["runs-on"]}
    assert ours == permissions.keys() & {"measure"}


@pytest.mark.parametrize(("name", "job"), [("gpu.yml", "comment"), ("nightly.yml", "propose")])
def test_what_an_earlier_attempt_uploaded_is_found(name: str, job: str) -> None:
    """Without a token the action asks a service that knows this attempt alone: MeshLib#6474."""
    steps = workflow(name)["jobs"][job]["steps"]
    (given,) = (each["with"] for each in steps if "download-artifact" in each.get("uses", ""))
    assert given["github-token"] == "${{ github.token }}"
    assert given["run-id"] == "${{ github.run_id }}"


GIVEN = sorted((ROOT / ".github").rglob("*.yml"))


def shells(told: dict[str, Any]) -> list[str]:
    """What the steps of a workflow or an action run."""
    jobs = [*told.get("jobs", {}).values(), told.get("runs", {})]
    return [step["run"] for job in jobs for step in job.get("steps", []) if "run" in step]


def test_no_text_of_others_becomes_code() -> None:
    """Names of branches, tests and artifacts reach a shell as variables."""
    texts = {path: shells(read(path)) for path in GIVEN}
    assert sum(map(len, texts.values())) > 12
    assert {path for path, lines in texts.items() if any("${{" in each for each in lines)} == set()
