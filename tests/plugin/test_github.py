"""Does a run in a job of GitHub Actions tell that job, and nobody else through it?"""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.report.github_summary import MOST_BYTES
from tests.plugin.conftest import PREAMBLE, Run, Session, lines
from tests.runner import commands_in

RED = """
@pytest.mark.perf(min_tps=5000)
def test_slow(load_model, measure):
    print("printed without a line's end", end="")
    measure(load(load_model), prompt_tokens=8, new_tokens=8)
"""
SKIPPED = """
def test_elsewhere(measure):
    pytest.skip("not here\\n::error::planted\\n##[warning]planted")

@pytest.mark.perf(min_tps=5)
@pytest.mark.parametrize("name", ["::error::planted-" + "x" * 60, "🐍 \\"|'</script>"])
def test_named(load_model, measure, name):
    measure(load(load_model), prompt_tokens=8, new_tokens=8)
"""


@pytest.fixture
def job(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A constructed job; the file of its page."""
    page = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    return page


@pytest.mark.parametrize("more", [[], ["-n", "2"], ["-s"], ["-q"]])
def test_a_job_gets_its_page_and_the_line_of_the_test_once(
    llmperf: Run, pytester: pytest.Pytester, job: Path, more: list[str]
) -> None:
    result = llmperf(RED, *more, apart=True)
    assert result.ret == 1
    told = job.read_text()
    assert told.startswith("## llmperf: 1 of 1 test red: 1 over budget\n")
    assert told.count("## llmperf") == 1, "no worker of xdist writes one, too"
    (annotation,) = commands_in(result.stdout.str())
    line = (pytester.path / "test_it.py").read_text().splitlines().index(RED.splitlines()[1]) + 1
    begins = f"::error file=test_it.py,line={line},title=llmperf%3A OVER_BUDGET::test_slow: "
    assert annotation.startswith(begins)


def test_the_command_tells_the_same(
    llmperf: Run, pytester: pytest.Pytester, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = commands_in(llmperf(RED, "--llmperf-json=out.json").stdout.str())
    page = job.read_text()
    job.unlink()
    capsys.readouterr()
    assert main(["report", str(pytester.path / "out.json"), "--github"]) == 0
    assert job.read_text() == page
    assert capsys.readouterr().out.splitlines() == said


def test_a_folder_of_tests_below_the_checkout_is_annotated_by_its_whole_path(
    pytester: pytest.Pytester, job: Path
) -> None:
    folder = pytester.mkdir("engine")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_deep.py").write_text(PREAMBLE + RED)
    result = pytester.runpytest_subprocess("--llmperf", "--rootdir=engine", "engine")
    (annotation,) = commands_in(result.stdout.str())
    assert annotation.startswith("::error file=engine/test_deep.py,line=")


def test_an_inherited_test_is_annotated_where_it_was_written(
    llmperf: Run, pytester: pytest.Pytester, job: Path
) -> None:
    pytester.makepyfile(
        written=PREAMBLE
        + """
class Inherited:
    @pytest.mark.perf(min_tps=5000)
    def test_slow(self, load_model, measure):
        measure(load(load_model), prompt_tokens=8, new_tokens=8)
"""
    )
    result = llmperf("from written import Inherited\nclass TestIt(Inherited): pass\n", apart=True)
    (annotation,) = commands_in(result.stdout.str())
    lines = (pytester.path / "written.py").read_text().splitlines()
    at = next(n for n, line in enumerate(lines, 1) if "perf(" in line)
    assert annotation.startswith(f"::error file=written.py,line={at},")


def test_what_tests_say_is_no_command(llmperf: Run, job: Path) -> None:
    result = llmperf(SKIPPED, "-p", "no:cacheprovider", "-r", "N", apart=True)
    said = result.stdout.str()
    assert "planted" in said
    assert commands_in(said) == []
    assert "planted" in job.read_text()
    assert "</script" not in job.read_text()


def test_without_a_guard_it_would_be_one(llmperf: Run) -> None:
    said = llmperf(SKIPPED, "-p", "no:cacheprovider", "-r", "N", apart=True).stdout.str()
    assert "::error::planted" in commands_in(said)
    assert "stop-commands" not in said, "no job, no guard"


@pytest.mark.parametrize("off", ["--llmperf-github=off", "LLMPERF_GITHUB", "ini"])
def test_it_can_be_turned_off(
    llmperf: Run, pytester: pytest.Pytester, job: Path, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    if off == "ini":
        pytester.makeini("[pytest]\nllmperf_github = off")
    elif off.startswith("LLMPERF"):
        monkeypatch.setenv(off, "off")
    result = llmperf(RED, *([off] if off.startswith("--") else []))
    assert result.ret == 1
    assert not job.exists()
    assert commands_in(result.stdout.str()) == []


def test_elsewhere_it_is_on_when_asked_for(
    llmperf: Run, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    llmperf(RED)
    assert not job.exists()
    llmperf(RED, "--llmperf-github")
    assert job.exists()


def test_collecting_tells_nothing(llmperf: Run, job: Path) -> None:
    llmperf(RED, "--collect-only")
    assert not job.exists()


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("trouble", ["unset", "unwritable", "full"])
def test_a_page_that_cannot_be_written_is_a_warning(
    llmperf: Run, job: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, code: int
) -> None:
    why = "names no file"
    if trouble == "unset":
        monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    elif trouble == "unwritable":
        job.mkdir()
        why = "cannot be written"
    else:
        job.write_text("x" * (MOST_BYTES - 40))
        why = f"holds {MOST_BYTES - 40} bytes of the {MOST_BYTES}"
    result = llmperf(RED if code else RED.replace("5000", "5"))
    assert result.ret == code
    assert why in result.stdout.str()
    warning = commands_in(result.stdout.str())[-1]
    assert warning.startswith("::warning title=llmperf::no summary: ")


@pytest.mark.parametrize(
    ("days", "pace", "code", "verdict"),
    [(1, "1", 0, "PASSED"), (1, "0.5", 1, "REGRESSED"), (-1, "0.5", 1, "REGRESSED")],
)
@pytest.mark.usefixtures("history")
def test_a_clock_that_is_a_day_off_turns_no_verdict(  # noqa: PLR0917 - fixtures and a table
    session: Session,
    pytester: pytest.Pytester,
    job: Path,
    days: int,
    pace: str,
    code: int,
    verdict: str,
) -> None:
    """The sessions of the baseline were recorded on a runner whose clock was ``days`` ahead."""
    (path,) = (pytester.path / "baselines").glob("*/test_it.py.jsonl")
    told = [json.loads(line) for line in path.read_text().splitlines()]
    for line in told:
        if "date" in line:
            moved = datetime.datetime.fromisoformat(line["date"]) + datetime.timedelta(days=days)
            line["date"] = moved.isoformat()
    assert sum("date" in line for line in told) >= 10
    path.write_text("".join(json.dumps(line) + "\n" for line in told))
    result = session("--llmperf-record", pace=pace)
    assert result.ret == code
    assert f"| **{verdict}** |" in job.read_text()
    assert len(lines(pytester.path, "session")) == 11 * 3, "of three metrics"


GREEN = """
@pytest.mark.perf(min_tps=5)
def test_good(load_model, measure):
    measure(load(load_model), prompt_tokens=8, new_tokens=8)
"""
STOPPED = """
def test_stopped(measure):
    raise KeyboardInterrupt

def test_never_reached(measure):
    pass
"""
BROKEN = """
@pytest.fixture(scope="session", autouse=True)
def plugin(request):
    class Breaks:
        def pytest_runtest_logfinish(self):
            raise RuntimeError("broken plugin")
    request.config.pluginmanager.register(Breaks())
"""
BASELINES_TAKEN = """
def test_takes_the_place_of_the_baselines(request):
    (request.config.rootpath / "baselines").write_text("a file")
"""
PAGE_TAKEN = """
def test_takes_the_place_of_the_page(request):
    (request.config.rootpath / "page.html").mkdir()
"""


@pytest.mark.parametrize(
    ("more", "options", "code", "headline"),
    [
        (STOPPED, [], 2, "incomplete: 1 of 3 tests have a result, 1 passed"),
        (BROKEN, [], 3, "red: 1 passed, exit status 3"),
        ("def test_own(): assert 0", [], 1, "red: 1 passed, exit status 1"),
        (BASELINES_TAKEN, ["--llmperf-record"], 4, "red: 1 passed, exit status 4"),
        (PAGE_TAKEN, ["--llmperf-html=page.html"], 4, "red: 1 passed, exit status 4"),
    ],
    ids=["interrupted", "internal error", "another test", "no baselines", "no page"],
)
def test_what_ended_a_run_beside_its_tests_is_not_green(  # noqa: PLR0917 - fixtures and a table
    llmperf: Run,
    pytester: pytest.Pytester,
    job: Path,
    capsys: pytest.CaptureFixture[str],
    more: str,
    options: list[str],
    code: int,
    headline: str,
) -> None:
    result = llmperf(GREEN + more, *options, "--llmperf-json=out.json", apart=True)
    assert result.ret == code
    assert job.read_text().splitlines()[0] == f"## llmperf: {headline}"
    capsys.readouterr()
    assert main(["report", str(pytester.path / "out.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"verdict": "FAILED", "headline": headline}


@pytest.mark.usefixtures("history")
def test_a_baseline_without_a_test_is_not_green_where_it_fails(
    llmperf: Run, pytester: pytest.Pytester, job: Path
) -> None:
    assert llmperf(GREEN, "--llmperf-strict").ret == 1
    told = job.read_text()
    assert told.startswith("## llmperf: red: ")
    assert "exit status 1" in told.splitlines()[0]
    assert "a baseline has no test any more" in told


def test_a_page_that_others_nearly_filled_gets_the_verdict(llmperf: Run, job: Path) -> None:
    job.write_text("x" * (MOST_BYTES - 400))
    assert llmperf(RED).ret == 1
    told = job.read_text()
    assert len(told.encode()) <= MOST_BYTES
    assert "\n## llmperf: 1 of 1 test red" in told
    assert "more lines, for which a summary has no room" in told
