"""Is there one comment on a pull request, updated instead of repeated?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.github.conftest import command
from tests.github.job import ROOT, Job, read

GH = """
printf '%s\\n' "$@" | jq -R . | jq -sc . >> "$CALLS"
[ "$2" = --paginate ] && jq -r "$5" "$COMMENTS"
for each in "$@"; do [[ $each == body=@* ]] && cp "${each#body=@}" "$BODY"; done
exit 0
"""
"""Stands in for GitHub's own command: notes what it was asked, and has jq answer as gh does."""

HEAD, RUN = "c0ffee" * 6 + "c0ff", "https://github.com/owner/scratch/actions/runs/7"
TOP = f"<!-- pytest-llmperf: llmperf -->\n{HEAD}, [the run]({RUN})\n\n"
MARKED = "<!-- pytest-llmperf: llmperf -->\n## llmperf: green"


@pytest.fixture
def comments(job: Job) -> Job:
    """A pull request with the comments that a test writes to the job's folder."""
    command(job.folder / "bin", "gh", GH)
    (job.folder / "path").write_text(str(job.folder / "bin"))
    places = {name: str(job.folder / name.lower()) for name in ("CALLS", "COMMENTS", "BODY")}
    job.environment = {**job.environment, **places}
    job.contexts = {**job.contexts, "github.event.pull_request.head.sha": HEAD}
    (job.workspace / "summary.md").write_text("## llmperf: red `$(touch planted)` é\n")
    return job


def there_are(job: Job, *comments: tuple[int, str, str]) -> None:
    told = [{"id": n, "user": {"type": kind}, "body": body} for n, kind, body in comments]
    (job.folder / "comments").write_text(json.dumps(told))


def calls(job: Job) -> list[list[str]]:
    return [json.loads(line) for line in (job.folder / "calls").read_text().splitlines()]


def test_the_first_run_writes_it(comments: Job) -> None:
    there_are(comments, (1, "User", "looks good"), (2, "Bot", "of another tool"))
    comments.action("comment", file="summary.md", number="12")
    assert [each.exit_code for each in comments.ran] == [0], comments.ran[0].output
    _, last = calls(comments)
    assert "POST" in last
    assert "repos/owner/scratch/issues/12/comments" in last
    body = (comments.folder / "body").read_text()
    assert body == f"{TOP}## llmperf: red `$(touch planted)` é\n"
    assert not (comments.workspace / "planted").exists()


def test_a_later_run_updates_it(comments: Job) -> None:
    there_are(comments, (1, "User", MARKED), (2, "Bot", "other"), (3, "Bot", MARKED))
    comments.action("comment", file="summary.md", number="12")
    _, last = calls(comments)
    assert "PATCH" in last
    assert "repos/owner/scratch/issues/comments/3" in last, "not what a person wrote"


def test_another_job_has_another_comment(comments: Job) -> None:
    there_are(comments, (3, "Bot", MARKED))
    comments.action("comment", file="summary.md", number="12", name="jetson")
    assert "POST" in calls(comments)[-1]


@pytest.mark.parametrize(
    "given",
    [
        {"number": "12/../../1"},
        {"number": ""},
        {"number": "1", "name": 'x")) | .id'},
        {"number": "1", "commit": ""},
        {"number": "1", "commit": "main](https://example.org)"},
    ],
)
def test_what_is_no_number_name_or_commit_is_refused(comments: Job, given: dict[str, str]) -> None:
    comments.action("comment", file="summary.md", **given)
    assert [each.exit_code for each in comments.ran] == [4]
    assert not (comments.folder / "calls").exists()


def test_where_the_run_broke_early_what_an_earlier_one_said_does_not_stay(comments: Job) -> None:
    there_are(comments, (3, "Bot", MARKED))

    def use(name: str, inputs: Mapping[str, str]) -> None:
        if name == "./.github/actions/comment":
            comments.action("comment", number="12", **inputs)

    comments.stand_in = use
    comments.workflow("gpu.yml", "comment")
    assert not comments.has_failed, comments.ran[-1].output
    assert "repos/owner/scratch/issues/comments/3" in calls(comments)[-1]
    body = (comments.folder / "body").read_text()
    assert body == f"{TOP}## llmperf: nothing measured\n\n[The run]({RUN}) tells why.\n"


def test_an_artifact_that_is_missing_does_not_keep_the_comment_from_being_written() -> None:
    steps = read(ROOT / ".github" / "workflows" / "gpu.yml")["jobs"]["comment"]["steps"]
    (download,) = (each for each in steps if "download-artifact" in each["uses"])
    assert download["continue-on-error"] is True


def test_a_large_file_is_cut_to_what_a_comment_takes(comments: Job) -> None:
    there_are(comments)
    Path(comments.workspace / "summary.md").write_text("x" * 100_000)
    comments.action("comment", file="summary.md", number="12")
    assert len((comments.folder / "body").read_text()) < 65_536
