"""Do the steps of the action run pytest, keep what is asked for, and say how it went?"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.github.conftest import TESTS, Used, command
from tests.github.job import Job
from tests.runner import commands_in

NASTY = "a b'c\"d$(touch planted)`touch planted`;touch planted #é"


def came_to(job: Job) -> list[tuple[str, int]]:
    """The steps that ran, and their exit codes."""
    return [(each.name, each.exit_code) for each in job.ran]


def test_a_green_run_has_a_page_a_verdict_and_an_artifact(job: Job, used: Used) -> None:
    told = job.action("llmperf")
    assert came_to(job) == [("refuse", 0), ("measure", 0), ("tell", 0)]
    assert told["verdict"] == "PASSED"
    assert told["headline"] == "green: 1 passed"
    assert json.loads(Path(told["result"]).read_text())["format"] == "pytest-llmperf-result"
    assert job.page.read_text().count("## llmperf: green: 1 passed\n") == 1
    assert Path(told["summary"]).read_text() == job.page.read_text()
    assert used.names == ["actions/upload-artifact"]
    (_, given) = used.told[0]
    assert given["name"] == told["artifact"] == "llmperf-attempt-1"
    names = sorted(path.name for path in Path(given["path"]).iterdir())
    assert names == ["report.html", "result.json", "summary.md"]


def test_without_the_extra_for_pages_the_log_says_so(job: Job) -> None:
    lacks = f'case "$*" in *"import jinja2"*) exit 1;; esac; exec {sys.executable} "$@"'
    command(job.folder / "bin", "python", lacks)
    (job.folder / "path").write_text(str(job.folder / "bin"))
    told = job.action("llmperf")
    assert told["headline"] == "green: 1 passed"
    assert "no report.html: pip install 'pytest-llmperf[html]'" in job.ran[1].output
    assert not Path(told["result"]).with_name("report.html").exists()
    assert not (job.workspace / "baselines").exists(), "nothing is recorded unasked"


def test_a_red_run_fails_and_tells_all_the_same(job: Job, used: Used) -> None:
    (job.workspace / "test_it.py").write_text(TESTS.replace("LIMIT", "5000"))
    told = job.action("llmperf", keep="cache", record="true")
    assert came_to(job) == [("refuse", 0), ("measure", 1), ("tell", 0)]
    assert told["verdict"] == "OVER_BUDGET"
    assert told["headline"] == "1 of 1 test red: 1 over budget"
    (annotation,) = commands_in("".join(each.output for each in job.ran))
    assert annotation.startswith("::error file=test_it.py,line=")
    assert used.names == ["actions/cache/restore", "actions/upload-artifact", "actions/cache/save"]


def test_a_run_that_never_began_says_that_nothing_was_measured(job: Job, used: Used) -> None:
    told = job.action("llmperf", arguments="--llmperf-samples=no")
    assert job.ran[1].exit_code == 4
    assert "must be a whole number" in job.ran[1].output
    assert "no result.json: nothing was measured" in job.ran[2].output
    assert told["verdict"] == "NOTHING_MEASURED"
    assert told["headline"] == "nothing measured"
    summary = Path(told["summary"])
    assert summary.read_text().startswith("## llmperf: nothing measured\n")
    (_, given) = used.told[0]
    assert summary.parent == Path(given["path"]), "in the artifact, for the job that comments"


def test_arguments_are_words_and_never_code(job: Job) -> None:
    command(job.folder / "bin", "python", f'exec {sys.executable} -c "{_SHOW}" "$@"')
    (job.folder / "path").write_text(str(job.folder / "bin"))
    quoted = "'" + NASTY.replace("'", "'\"'\"'") + "'"
    job.action("llmperf", install=f"-e '.[a, b]' {quoted}", arguments=f"-k {quoted} 'x y'")
    install, measure = (json.loads(each.output.splitlines()[-1]) for each in job.ran[1:3])
    assert install == ["-m", "pip", "install", "-e", ".[a, b]", NASTY]
    assert measure[:3] == ["-m", "pytest", "--llmperf"]
    assert measure[-3:] == ["-k", NASTY, "x y"]
    assert not list(job.workspace.rglob("planted"))


_SHOW = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.mark.parametrize("step", ["install", "arguments"])
def test_a_quote_without_its_other_half_is_refused(job: Job, step: str) -> None:
    job.action("llmperf", **{step: "-k 'half"})
    assert job.ran[1].exit_code != 0
    assert "unmatched single quote" in job.ran[1].output


@pytest.mark.parametrize(
    ("inputs", "event", "why"),
    [
        ({"record": "true"}, "pull_request", "a run of pull_request records no baselines"),
        ({"record": "true"}, "pull_request_target", "a run of pull_request_target records no"),
        ({"record": "true"}, "workflow_run", "only push, schedule and workflow_dispatch do"),
        ({"record": "true"}, "issue_comment", "a run of issue_comment records no baselines"),
        ({"record": "yes"}, "push", "record must be true or false, and is 'yes'"),
        ({"record": "true", "keep": "drawer"}, "push", "keep must be repository or cache, and is"),
    ],
)
def test_what_must_not_be_is_refused(
    job: Job, used: Used, inputs: dict[str, str], event: str, why: str
) -> None:
    job.environment = {**job.environment, "GITHUB_EVENT_NAME": event}
    usual = {"keep": "cache", "install": "-e .", "python_version": "3.11"}
    job.action("llmperf", **{**usual, **inputs})
    assert came_to(job) == [("refuse", 4)], "nothing is installed"
    assert why in job.ran[0].output
    assert used.told == [], "nothing is set up, restored or saved"


@pytest.mark.parametrize("event", ["schedule", "workflow_dispatch"])
def test_who_may_record_does(job: Job, event: str) -> None:
    job.environment = {**job.environment, "GITHUB_EVENT_NAME": event}
    job.action("llmperf", keep="cache", record="true")
    assert not job.has_failed
    assert list((job.workspace / ".llmperf" / "baselines").rglob("*.jsonl"))


def test_where_pytest_never_began_nothing_is_saved(job: Job, used: Used) -> None:
    job.action("llmperf", keep="cache", record="true", arguments="'half")
    assert came_to(job) == [("refuse", 0), ("measure", 1)]
    assert used.names == ["actions/cache/restore"]


def test_what_the_main_branch_records_is_what_a_pull_request_meets(job: Job) -> None:
    kept = job.folder / "kept"

    def cache(name: str, inputs: dict[str, str]) -> None:
        here = job.workspace / inputs.get("path", "")
        if name.endswith("save"):
            shutil.copytree(here, kept, dirs_exist_ok=True)
        elif name.endswith("restore") and kept.exists():
            shutil.copytree(kept, here)

    job.stand_in = cache  # type: ignore[assignment] # a mapping is a dictionary here
    for _ in range(3):
        job.action("llmperf", keep="cache", record="true")
        shutil.rmtree(job.workspace / ".llmperf")
    job.environment = {**job.environment, "GITHUB_EVENT_NAME": "pull_request"}
    told = job.action("llmperf", keep="cache")
    result = json.loads(Path(told["result"]).read_text())
    pairs = result["tests"][0]["measurements"][0]["pairs"]
    assert {pair["judgement"]["sessions"] for pair in pairs} == {3}
    assert (kept / "history.db").stat().st_size > 0
    assert not (job.workspace / "baselines").exists()


def test_no_job_takes_what_another_one_keeps(job: Job, used: Used) -> None:
    names = ("llmperf", "llmperf-gpu", "", "build")
    for name in names:
        job.action("llmperf", keep="cache", artifact=name, arguments="--version")
    found = [given for _, given in used.told if "restore-keys" in given]
    keys = [given["key"] for given in found]
    assert keys[0] == "llmperf-Linux-X64-llmperf/7-1"
    assert keys[2] == "llmperf-Linux-X64-/build test/measure/7-1", "a key takes no comma"
    for number, given in enumerate(found):
        meets = [key for key in keys if key.startswith(given["restore-keys"])]
        assert meets == [keys[number]]


def test_no_attempt_uploads_what_is_called_as_in_another(job: Job, used: Used) -> None:
    job.environment = {**job.environment, "GITHUB_RUN_ATTEMPT": "2"}
    told = job.action("llmperf", artifact="llmperf-a", arguments="--version")
    (name,) = [given["name"] for each, given in used.told if each.endswith("upload-artifact")]
    assert name == told["artifact"] == "llmperf-a-attempt-2"


def test_what_was_not_uploaded_has_no_name(job: Job, used: Used) -> None:
    """Else who comments would look for it."""
    told = job.action("llmperf", arguments="'half")
    assert (told["artifact"], used.names) == ("", [])
    job.stand_in = lambda name, inputs: {}
    assert job.action("llmperf", arguments="--version")["artifact"] == ""


def test_without_an_artifact_there_is_no_name_of_one(job: Job, used: Used) -> None:
    assert job.action("llmperf", artifact="", arguments="--version")["artifact"] == ""
    assert used.names == []


def test_a_cancelled_job_uploads_nothing(job: Job, used: Used) -> None:
    job.cancelled_in = "measure"
    job.action("llmperf", keep="cache", record="true")
    assert came_to(job) == [("refuse", 0), ("measure", 0)]
    assert used.names == ["actions/cache/restore"]


def test_pytest_takes_the_place_of_the_shell(job: Job) -> None:
    """What the runner started and sends its signals to is pytest itself."""
    (job.workspace / "test_it.py").write_text(
        "import os\nfrom pathlib import Path\n\n"
        "def test_parent(hardware):\n    Path('parent').write_text(str(os.getppid()))\n"
    )
    job.action("llmperf")
    assert int((job.workspace / "parent").read_text()) == os.getpid()
