"""Is there one comment on a pull request, updated instead of repeated?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.github.conftest import Used, command
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
LOST = (
    "## llmperf: results not at hand\n\n"
    "They were uploaded, but could not be downloaded, or hold no summary: "
    f"[the run]({RUN}) has them.\n"
)
CUT = f"\nCut here, for a comment has no room for more: [the run]({RUN}) has the rest.\n"
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


def test_what_cannot_be_downloaded_was_measured_all_the_same(comments: Job) -> None:
    there_are(comments)
    name = "llmperf-attempt-1"
    comments.contexts = {**comments.contexts, "needs.measure.outputs.artifact": name}

    def use(name: str, inputs: Mapping[str, str]) -> None:
        if name == "./.github/actions/comment":
            comments.action("comment", number="12", **inputs)

    comments.stand_in = use
    comments.workflow("gpu.yml", "comment")
    assert (comments.folder / "body").read_text() == TOP + LOST


@pytest.mark.parametrize("artifact", ["llmperf-attempt-1", "llmperf-attempt-2"])
def test_it_is_about_the_attempt_that_measured(comments: Job, artifact: str) -> None:
    """Of a run that is done again, both attempts' artifacts are there."""
    there_are(comments)
    comments.contexts = {**comments.contexts, "needs.measure.outputs.artifact": artifact}

    def use(name: str, inputs: Mapping[str, str]) -> None:
        if name == "actions/download-artifact":
            uploaded(Path(inputs["path"]), f"of {inputs['name']}\n")
        if name == "./.github/actions/comment":
            comments.action("comment", number="12", **inputs)

    comments.stand_in = use
    comments.workflow("gpu.yml", "comment")
    assert (comments.folder / "body").read_text() == f"{TOP}of {artifact}\n"


def test_without_a_name_of_this_attempt_nothing_is_downloaded(comments: Job, used: Used) -> None:
    """No name would mean all: those of earlier attempts."""
    comments.contexts = {**comments.contexts, "needs.measure.outputs.artifact": ""}
    comments.workflow("gpu.yml", "comment")
    assert used.names == ["actions/checkout", "./.github/actions/comment"]


def uploaded(folder: Path, text: str) -> None:
    """As an artifact is once it was downloaded."""
    folder.mkdir(parents=True)
    (folder / "summary.md").write_text(text)


def test_of_several_jobs_it_takes_the_newest_attempt_of_each(comments: Job) -> None:
    there_are(comments)
    comments.environment = {**comments.environment, "GITHUB_RUN_ATTEMPT": "10"}
    names = ("b-attempt-10", "a-attempt-2", "b-attempt-9", "b-attempt-1", "a-attempt-1")
    strange = ("a-attempt-1-attempt-3", "other", "c-attempt-01", "d-attempt-x", "-attempt-4")
    for name in (*names, *strange):
        uploaded(comments.workspace / "all" / name, f"## of {name}\n")
    comments.action("comment", file="all", number="12")
    assert not comments.has_failed, comments.ran[-1].output
    again = "of 10; it was not run again, or came to nothing"
    assert (comments.folder / "body").read_text() == (
        f"{TOP}`a`, attempt 2 {again}\n\n## of a-attempt-2\n\n"
        f"`a-attempt-1`, attempt 3 {again}\n\n## of a-attempt-1-attempt-3\n\n"
        "`b`, attempt 10\n\n## of b-attempt-10\n\n"
    )


def test_a_newer_attempt_that_told_nothing_does_not_bring_back_the_older_one(comments: Job) -> None:
    there_are(comments)
    comments.environment = {**comments.environment, "GITHUB_RUN_ATTEMPT": "2"}
    uploaded(comments.workspace / "all" / "a-attempt-1", "## green\n")
    (comments.workspace / "all" / "a-attempt-2").mkdir()
    comments.action("comment", file="all", number="12")
    assert (comments.folder / "body").read_text() == f"{TOP}`a`, attempt 2\n\n{LOST}\n"


@pytest.mark.parametrize(
    ("names", "told"),
    [([""], "## green\n"), ([], f"## llmperf: nothing measured\n\n[The run]({RUN}) tells why.\n")],
)
def test_a_single_artifact_has_no_folder_of_its_own(
    comments: Job, names: list[str], told: str
) -> None:
    there_are(comments)
    for name in names:
        uploaded(comments.workspace / "all" / name, "## green\n")
    (comments.workspace / "all").mkdir(exist_ok=True)
    comments.action("comment", file="all", number="12")
    assert (comments.folder / "body").read_text() == TOP + told


def test_an_artifacts_name_is_no_code(comments: Job) -> None:
    there_are(comments)
    name = "a$(touch planted)`touch planted`]; touch planted #é"
    for attempt in (1, 2):
        uploaded(comments.workspace / "all" / f"{name}-attempt-{attempt}", f"of {attempt}\n")
    comments.action("comment", file="all", number="12")
    assert not comments.has_failed, comments.ran[-1].output
    assert (comments.folder / "body").read_text().endswith("\n\nof 2\n\n")
    assert not list(comments.folder.parent.rglob("planted"))


@pytest.mark.parametrize("file", ["summary.md", "all"])
def test_a_link_is_no_way_to_the_files_of_the_job_that_writes(comments: Job, file: str) -> None:
    there_are(comments)
    (comments.workspace / "secret").write_text("secret\n")
    (comments.workspace / "summary.md").unlink()
    (comments.workspace / "all" / "a-attempt-1").mkdir(parents=True)
    (comments.workspace / "all" / "b-attempt-1").symlink_to(comments.workspace)
    for place in (".", "all/a-attempt-1"):
        (comments.workspace / place / "summary.md").symlink_to(comments.workspace / "secret")
    comments.action("comment", file=file, number="12")
    body = (comments.folder / "body").read_text()
    assert ("nothing measured" in body) is (file == "summary.md")
    assert ("`a`, attempt 1\n\n" + LOST in body) is (file == "all")
    assert "secret" not in body
    assert "`b`" not in body


ROW = f"| {'x' * 196} |\n"


def many(job: Job, count: int, summary: str) -> str:
    """The comment on so many jobs with this summary."""
    there_are(job)
    for number in range(count):
        uploaded(job.workspace / "all" / f"job-{number:03}-attempt-1", summary)
    job.action("comment", file="all", number="12")
    assert not job.has_failed, job.ran[-1].output
    return (job.folder / "body").read_text()


def test_many_jobs_share_what_a_comment_takes(comments: Job) -> None:
    body = many(comments, 20, "## red\n\n" + ROW * 300)
    assert 50_000 < len(body) <= 60_000
    parts = body.removeprefix(TOP).split("`job-")[1:]
    assert len(parts) == 20
    for part in parts:
        head, _, rest = part.partition("## red\n\n")
        assert head.endswith("attempt 1\n\n")
        assert rest.endswith(CUT + "\n")
        assert set(rest.removesuffix(CUT + "\n").splitlines(keepends=True)) == {ROW}


def test_what_a_short_one_leaves_the_others_take(comments: Job) -> None:
    uploaded(comments.workspace / "all" / "z-attempt-1", "## red\n\n" + ROW * 250)
    body = many(comments, 20, "## short\n")
    assert body.count(ROW) == 250
    assert CUT not in body


def test_of_a_hundred_full_jobs_the_worst_are_shown_and_the_rest_counted(comments: Job) -> None:
    for number in range(2):
        uploaded(comments.workspace / "all" / f"red-{number}-attempt-1", "## llmperf: 1 red\n")
    body = many(comments, 100, "## llmperf: green: 9 passed\n\n" + ROW * 300)
    assert len(body) < 65_536
    assert body.startswith(f"{TOP}`red-0`, attempt 1\n\n## llmperf: 1 red\n\n`red-1`, attempt 1")
    shown = body.count("## llmperf: green: 9 passed\n")
    assert shown == body.count("`job-") == body.count(CUT) > 50
    assert body.endswith(
        f"There are {100 - shown} more, for which a comment has no room: "
        f"[the run]({RUN}) has them.\n"
    )


def test_a_hundred_small_jobs_are_all_shown(comments: Job) -> None:
    body = many(comments, 100, "## llmperf: green: 9 passed\n")
    assert body.count("## llmperf: green: 9 passed\n") == 100
    assert CUT not in body
    assert "no room" not in body


def test_a_large_file_is_cut_to_what_a_comment_takes(comments: Job) -> None:
    there_are(comments)
    Path(comments.workspace / "summary.md").write_text("## red\n\n" + ROW * 1000)
    comments.action("comment", file="summary.md", number="12")
    body = (comments.folder / "body").read_text()
    assert 59_000 < len(body) <= 60_000
    assert body.endswith(ROW + CUT)
