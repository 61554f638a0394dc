"""Do the nightly's steps propose baselines as one pull request, and go on from it?"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.github.conftest import command
from tests.github.job import ROOT, Job, read

GH = """
echo "$*" >> "$CALLS"
if [ "$1 $2" = "pr list" ]; then
    while [ "$1" != --jq ]; do shift; done
    jq -r "$2" "$OPEN"
fi
"""
"""Stands in for GitHub's own command: notes what it was asked, and has jq answer as gh does."""
OURS, FORKS = {"isCrossRepository": False}, {"isCrossRepository": True}
BRANCH = "llmperf/baselines"


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A repository whose main branch has one session of baselines."""
    bare, first = tmp_path / "remote.git", tmp_path / "first"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(bare))
    git(tmp_path, "clone", "-q", str(bare), str(first))
    (first / "baselines").mkdir()
    (first / "baselines" / "t.jsonl").write_text("1\n")
    git(first, "add", "-A")
    git(first, "commit", "-qm", "first")
    git(first, "push", "-q", "origin", "HEAD:main")
    return bare


@pytest.fixture
def night(tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    return Night(tmp_path, remote)


class Night:
    """Runs both jobs: what the machine measures is one line more."""

    def __init__(self, folder: Path, remote: Path) -> None:
        self.folder, self.remote, self.count = folder, remote, 0
        self.open: list[dict[str, bool]] = []
        """The open pull requests from a branch of that name."""

    def run(self) -> list[str]:
        """One night; what was asked of GitHub."""
        self.count += 1
        asks = self._job("asks")
        asked = read(ROOT / ".github" / "workflows" / "nightly.yml")["jobs"]["ask"]["steps"]
        asks.steps([each for each in asked if each.get("id") == "ask"], {})
        assert not asks.has_failed, asks.ran[-1].output
        machine = self.goes_on(asks.outputs["steps.ask.outputs.open"])
        assert not machine.has_failed, machine.ran[-1].output
        (machine.workspace / "baselines").mkdir(exist_ok=True)
        with (machine.workspace / "baselines" / "t.jsonl").open("a") as file:
            file.write(f"night {self.count}\n")
        writer = self._job("writer")
        artifact = machine.workspace / "baselines"

        def download(name: str, inputs: Mapping[str, str]) -> None:
            if name == "actions/download-artifact":
                shutil.copytree(artifact, inputs["path"])

        writer.stand_in = download
        writer.workflow("nightly.yml", "propose")
        assert not writer.has_failed, writer.ran[-1].output
        calls = (writer.folder / "calls").read_text().splitlines()
        if any(each.startswith("pr create") for each in calls):
            self.open.append(OURS)
        return calls

    def goes_on(self, proposals: str) -> Job:
        """The machine's step that takes what is proposed; ``proposals``: how many are open."""
        machine = self._job("machine")
        machine.contexts = {**machine.contexts, "needs.ask.outputs.open": proposals}
        measure = read(ROOT / ".github" / "workflows" / "nightly.yml")["jobs"]["measure"]["steps"]
        machine.steps([each for each in measure if each.get("name", "").startswith("go on")], {})
        return machine

    def _job(self, name: str) -> Job:
        folder = self.folder / f"{name}-{self.count}"
        git(self.folder, "clone", "-q", "--depth=1", f"file://{self.remote}", str(folder / "work"))
        job = Job(folder / "job", folder / "work", contexts={"github.token": "secret"})
        command(job.folder / "bin", "gh", GH)
        (job.folder / "path").write_text(str(job.folder / "bin"))
        (job.folder / "open").write_text(json.dumps(self.open))
        job.environment = {"CALLS": str(job.folder / "calls"), "OPEN": str(job.folder / "open")}
        return job

    def proposed(self) -> str:
        return git(self.remote, "show", f"{BRANCH}:baselines/t.jsonl")

    def commits(self) -> int:
        return int(git(self.remote, "rev-list", "--count", f"main..{BRANCH}"))


def test_the_first_night_opens_a_pull_request(night: Night) -> None:
    calls = night.run()
    assert any(each.startswith(f"pr create --head {BRANCH}") for each in calls)
    assert night.proposed() == "1\nnight 1"
    assert git(night.remote, "show", "main:baselines/t.jsonl") == "1", "main is not written"


def test_a_repository_without_baselines_gets_its_first(night: Night) -> None:
    second = night.folder / "second"
    git(night.folder, "clone", "-q", str(night.remote), str(second))
    git(second, "rm", "-qr", "baselines")
    git(second, "commit", "-q", "--allow-empty", "-m", "none")
    git(second, "push", "-q", "origin", "main")
    night.run()
    assert night.proposed() == "night 1"
    night.run()
    assert night.proposed() == "night 1\nnight 2"


def test_a_forks_branch_of_the_same_name_is_not_ours(night: Night) -> None:
    night.open = [FORKS]
    assert any(each.startswith("pr create") for each in night.run())
    assert not any(each.startswith("pr create") for each in night.run())


def test_further_nights_go_on_in_the_same_one(night: Night) -> None:
    night.run()
    calls = night.run()
    assert not any(each.startswith("pr create") for each in calls)
    assert night.proposed() == "1\nnight 1\nnight 2"
    assert night.commits() == 1


def test_after_it_was_merged_the_next_night_begins_anew(night: Night) -> None:
    night.run()
    second = night.folder / "second"
    git(night.folder, "clone", "-q", str(night.remote), str(second))
    git(second, "merge", "-q", "--squash", f"origin/{BRANCH}")
    git(second, "commit", "-qm", "merged")
    git(second, "push", "-q", "origin", "main")
    night.open = []
    assert any("pr create" in each for each in night.run())
    assert night.proposed() == "1\nnight 1\nnight 2"
    assert night.commits() == 1


def test_what_was_closed_and_not_merged_does_not_come_back(night: Night) -> None:
    night.run()
    night.open = []
    assert any("pr create" in each for each in night.run())
    assert night.proposed() == "1\nnight 2"
    assert night.commits() == 1


def test_a_branch_that_only_a_forks_proposal_has_is_not_gone_on_from(night: Night) -> None:
    night.run()
    night.open = [FORKS]
    night.run()
    assert night.proposed() == "1\nnight 2"


def test_what_a_person_accepted_meanwhile_is_not_undone(night: Night) -> None:
    night.run()
    second = night.folder / "second"
    git(night.folder, "clone", "-q", str(night.remote), str(second))
    (second / "baselines" / "t.jsonl").write_text("1\naccepted\n")
    git(second, "commit", "-qam", "accepted")
    git(second, "push", "-q", "origin", "main")
    night.run()
    assert night.proposed() == "1\naccepted\nnight 2"


@pytest.mark.parametrize(
    ("doctor", "uploaded"),
    [(0, ["actions/checkout", "./.github/actions/llmperf", "actions/upload-artifact"]), (75, [])],
)
def test_what_an_earlier_job_left_on_the_machine_is_not_proposed(
    night: Night, doctor: int, uploaded: list[str]
) -> None:
    """The workspace outlives its job, so that baselines may lie there that nobody measured."""
    job = night._job("machine")
    (job.workspace / "baselines" / "t.jsonl").write_text("of a pull request\n")
    command(job.folder / "bin", "pytest-llmperf", f"exit {doctor}")
    command(job.folder / "bin", "python3", "exit 0")
    used: list[str] = []

    def use(name: str, inputs: Mapping[str, str]) -> None:
        used.append(name)
        if name == "./.github/actions/llmperf":
            job.outputs["steps.llmperf.outputs.result"] = "result.json"

    job.stand_in = use
    job.workflow("nightly.yml", "measure")
    assert used == uploaded


def test_a_night_that_recorded_nothing_proposes_nothing(night: Night) -> None:
    job = night._job("writer")

    def unchanged(name: str, inputs: Mapping[str, str]) -> None:
        if name == "actions/download-artifact":
            shutil.copytree(job.workspace / "baselines", inputs["path"])

    job.stand_in = unchanged
    job.workflow("nightly.yml", "propose")
    assert job.ran[-1].output == "nothing new was recorded\n"
    assert BRANCH not in git(night.remote, "branch", "--list")


@pytest.mark.parametrize("strange", ["link.jsonl", "conftest.py", "run.jsonl"])
def test_what_somebody_pushed_to_the_branch_is_baselines_or_nothing(
    night: Night, strange: str
) -> None:
    """Recording writes to these files, and uploading reads them, on the machine that measures."""
    night.run()
    second, secret = night.folder / "second", night.folder / "secret"
    secret.write_text("secret\n")
    git(night.folder, "clone", "-q", "-b", BRANCH, str(night.remote), str(second))
    planted = second / "baselines" / strange
    if strange == "link.jsonl":
        planted.symlink_to(secret)
    else:
        planted.write_text("x\n")
    if strange == "run.jsonl":
        planted.chmod(0o755)
    git(second, "add", "-A")
    git(second, "commit", "-q", "--amend", "-m", "planted")
    git(second, "push", "-qf", "origin", BRANCH)
    night.count += 1
    machine = night.goes_on("1")
    assert machine.ran[-1].exit_code == 1
    assert f"baselines/{strange}\nno baselines, on the branch" in machine.ran[-1].output
    assert not (machine.workspace / "baselines" / strange).exists()


def test_what_cannot_be_checked_is_not_gone_on_from(night: Night) -> None:
    night.run()
    night.count += 1
    command(night.folder / f"machine-{night.count}" / "job" / "bin", "grep", "exit 2")
    machine = night.goes_on("1")
    assert machine.ran[-1].exit_code == 1
    assert machine.ran[-1].output.endswith(f"no baselines, on the branch {BRANCH} (grep: 2)\n")
    assert (machine.workspace / "baselines" / "t.jsonl").read_text() == "1\n"


@pytest.mark.parametrize("strange", ["conftest.py", "x/.gitattributes", "x/link.jsonl"])
def test_what_is_no_baseline_is_not_proposed(night: Night, strange: str) -> None:
    """The job that writes takes what a machine sent that also runs pull requests."""
    job = night._job("writer")

    def download(name: str, inputs: Mapping[str, str]) -> None:
        if name == "actions/download-artifact":
            folder = Path(inputs["path"])
            shutil.copytree(job.workspace / "baselines", folder)
            (folder / "x").mkdir()
            (folder / "x" / "new.jsonl").write_text("2\n")
            if strange.endswith(".jsonl"):
                (folder / strange).symlink_to("/etc/hostname")
            else:
                (folder / strange).write_text("x\n")

    job.stand_in = download
    job.workflow("nightly.yml", "propose")
    assert [each.exit_code for each in job.ran] == [1]
    assert job.ran[0].output == f"no baselines, and not proposed:\n{strange}\n"
    assert BRANCH not in git(night.remote, "branch", "--list")


def test_what_is_proposed_is_of_the_attempt_that_measured(night: Night) -> None:
    """The job that writes may be run again alone; what was measured keeps its attempt."""
    jobs = read(ROOT / ".github" / "workflows" / "nightly.yml")["jobs"]
    (upload,) = (
        each for each in jobs["measure"]["steps"] if "upload-artifact" in each.get("uses", "")
    )
    name = jobs["measure"]["outputs"]["artifact"]
    assert upload["with"]["name"] == name == "baselines-attempt-${{ github.run_attempt }}"
    job, used = night._job("writer"), []
    job.contexts = {
        "github.run_attempt": "2",
        "needs.measure.outputs.artifact": "baselines-attempt-1",
    }

    def download(name: str, inputs: Mapping[str, str]) -> None:
        if name == "actions/download-artifact":
            used.append(inputs["name"])
            shutil.copytree(job.workspace / "baselines", inputs["path"])

    job.stand_in = download
    job.workflow("nightly.yml", "propose")
    assert used == ["baselines-attempt-1"]
