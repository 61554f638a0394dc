"""Is there one comment on a pull request, updated instead of repeated?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.github.conftest import command
from tests.github.job import Job

GH = """
printf '%s\\n' "$@" | jq -R . | jq -sc . >> "$CALLS"
[ "$2" = --paginate ] && jq -r "$5" "$COMMENTS"
for each in "$@"; do [[ $each == body=@* ]] && cp "${each#body=@}" "$BODY"; done
exit 0
"""
"""Stands in for GitHub's own command: notes what it was asked, and has jq answer as gh does."""

MARKED = "<!-- pytest-llmperf: llmperf -->\n## llmperf: green"


@pytest.fixture
def comments(job: Job) -> Job:
    """A pull request with the comments that a test writes to the job's folder."""
    command(job.folder / "bin", "gh", GH)
    (job.folder / "path").write_text(str(job.folder / "bin"))
    places = {name: str(job.folder / name.lower()) for name in ("CALLS", "COMMENTS", "BODY")}
    job.environment = {**job.environment, **places}
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
    assert body == "<!-- pytest-llmperf: llmperf -->\n## llmperf: red `$(touch planted)` é\n"
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
    "given", [{"number": "12/../../1"}, {"number": ""}, {"number": "1", "name": 'x")) | .id'}]
)
def test_a_number_or_name_that_is_none_is_refused(comments: Job, given: dict[str, str]) -> None:
    comments.action("comment", file="summary.md", **given)
    assert [each.exit_code for each in comments.ran] == [4]
    assert not (comments.folder / "calls").exists()


def test_a_file_that_is_missing_is_no_comment(comments: Job) -> None:
    there_are(comments)
    comments.action("comment", file="nothing.md", number="12")
    assert comments.has_failed
    assert not (comments.folder / "calls").exists()


def test_a_large_file_is_cut_to_what_a_comment_takes(comments: Job) -> None:
    there_are(comments)
    Path(comments.workspace / "summary.md").write_text("x" * 100_000)
    comments.action("comment", file="summary.md", number="12")
    assert len((comments.folder / "body").read_text()) < 65_536
