"""Do the options do what they say, from wherever they are set?"""

import sys
from pathlib import Path

import pytest

from pytest_llmperf.hardware.detect import detect
from tests.plugin.conftest import Run

ONE = """
@pytest.mark.perf(min_tps=50)
def test_one(load_model, measure):
    result = measure(load(load_model))
    print("samples", result.decode_tps.n)
"""


def test_samples_from_marker_environment_and_command_line(
    llmperf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = ONE.replace("min_tps=50", "min_tps=50, samples=6")
    llmperf(marked, "-s").stdout.fnmatch_lines(["*samples 6"])
    monkeypatch.setenv("LLMPERF_SAMPLES", "7")
    llmperf(marked, "-s").stdout.fnmatch_lines(["*samples 7"])
    llmperf(marked, "-s", "--llmperf-samples=8").stdout.fnmatch_lines(["*samples 8"])


@pytest.mark.parametrize("table", ["[tool.pytest.ini_options]", "[tool.pytest]"])
def test_ini_switches_on(llmperf: Run, pytester: pytest.Pytester, table: str) -> None:
    pytester.makepyprojecttoml(f'{table}\nllmperf = "true"\nllmperf_samples = "5"')
    llmperf(ONE, "-s", off=True).stdout.fnmatch_lines(["*samples 5"])


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (
            "--llmperf-samples=2",
            "*--llmperf-samples='2': must be a whole number between 5 and 1000",
        ),
        ("--llmperf-time-budget=-1", "*--llmperf-time-budget='-1': must be a number of seconds*"),
        (
            "--llmperf-second-look=maybe",
            "*must be on, off, or a number of fresh workers*",
        ),
        ("--llmperf-accept= ", "*--llmperf-accept=' ': must say why"),
        ("--llmperf-accept=test_it.py", "*is a path: write --llmperf-accept=WHY test_it.py"),
        ("--llmperf-history=nonsense", "*--llmperf-history: 'nonsense': this is no database URL.*"),
        ("--llmperf-history=nosuch://x", "*knows no database 'nosuch'*"),
        ("--llmperf-require=npu", "*can only be gpu"),
        ("--llmperf-python=fake=/no/python", "*/no/python: there is no such file"),
        ("--llmperf-suite=smokey", "*no suite 'smokey', did you mean 'smoke'?*"),
    ],
)
def test_bad_value_is_a_usage_error(llmperf: Run, argument: str, said: str) -> None:
    result = llmperf(ONE, argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_a_path_after_accept_is_not_taken_for_a_reason(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    result = llmperf(ONE, "--llmperf-accept", "test_it.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*must say why; 'test_it.py' is a path: write *"])
    assert not (pytester.path / "baselines").exists()


def test_recording_without_the_switch_is_a_usage_error(llmperf: Run) -> None:
    result = llmperf(ONE, "--llmperf-record", off=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--llmperf-record keeps what was measured: add --llmperf*"])


@pytest.mark.parametrize("more", [[], ["-n", "2"]])
def test_a_misspelt_variable_is_warned_of_once(
    llmperf: Run, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.setenv("LLMPERF_RECROD", "1")
    result = llmperf(ONE, *more, apart=True)
    assert result.ret == 0
    assert result.stdout.str().count("did you mean LLMPERF_RECORD?") == 1


def test_a_misspelt_variable_is_a_usage_error_where_warnings_are_errors(
    llmperf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPERF_RECROD", "1")
    result = llmperf(ONE, "-W", "error")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: environment variable LLMPERF_RECROD is none of *"])


@pytest.mark.parametrize(("argument", "imported"), [("off", False), ("sqlite:///h.db", True)])
def test_only_a_database_that_is_named_is_looked_up(
    pytester: pytest.Pytester, argument: str, imported: bool
) -> None:
    pytester.makepyfile(f"""
import sys

def test_one():
    assert ("sqlalchemy" in sys.modules) == {imported}
""")
    switch = ["--llmperf", f"--llmperf-history={argument}"]
    pytester.runpytest_subprocess(*switch).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("script", "more", "kept"),
    [
        ("", [], 0),
        ("", ["-n", "1"], 0),
        ("decode_tps=20.0", [], 1),
        ("disaster='sigsegv'", [], 1),
        ("disaster='sigsegv', at='exit'", [], 1),
    ],
)
def test_without_a_cache_only_logs_that_are_wanted_stay(
    llmperf: Run,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    more: list[str],
    kept: int,
) -> None:
    folder = pytester.path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    source = ONE.replace("load(load_model)", f"load(load_model, {script})")
    llmperf(source, "-p", "no:cacheprovider", *more, apart=True)
    assert len(list(folder.glob("pytest-llmperf-*"))) == kept


def test_require_gpu_stops_where_there_is_none(llmperf: Run) -> None:
    there_is_one = bool(detect().gpus)
    result = llmperf(ONE, "--llmperf-require=gpu")
    assert result.ret == (0 if there_is_one else pytest.ExitCode.USAGE_ERROR)


def test_time_budget_takes_fewer_samples_and_says_so(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    slow = ONE.replace("load(load_model)", "load(load_model, decode_tps=20.0)")
    slow = slow.replace("min_tps=50", "min_tps=5")
    llmperf(slow, "-s").stdout.fnmatch_lines(["*samples 5"])
    result = llmperf(slow.replace("min_tps=5", "min_tps=500"))
    result.stdout.fnmatch_lines(["  note       workload too large for the time budget: *"])


def test_timeout_ends_a_hang(llmperf: Run) -> None:
    result = llmperf(
        ONE.replace("load(load_model)", 'load(load_model, disaster="hang", at="prefill")'),
        "--llmperf-timeout=1",
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["fake worker gave no answer for 1 s, and was ended, during prefill*"]
    )


def test_marker_s_timeout_wins(llmperf: Run) -> None:
    source = ONE.replace("min_tps=50", "timeout_s=0.5")
    result = llmperf(source.replace("load(load_model)", 'load(load_model, disaster="hang")'))
    result.stdout.fnmatch_lines(["fake worker gave no answer for 0.5 s*"])


def test_backend_and_model_from_the_command_line(llmperf: Run) -> None:
    result = llmperf(
        "def test_one(load_model, measure):\n    measure(load_model())",
        "--llmperf-backend=fake",
        "--llmperf-model=fake:mine",
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["* fake fake:mine*"])


def another_python(folder: Path) -> Path:
    """An interpreter of another name, which leaves a mark when it is started."""
    python = folder / "python-of-another-environment"
    python.write_text(f'#!/bin/sh\necho started >> {folder}/mark\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def test_the_workers_of_a_backend_run_in_the_interpreter_that_was_named(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    python = another_python(pytester.path)
    result = llmperf(ONE, f"--llmperf-python=fake={python}", "--llmperf-record")
    result.assert_outcomes(passed=1)
    assert (pytester.path / "mark").read_text().count("started") == 2, "tried, and then used"


def test_a_baseline_is_the_same_in_whatever_interpreter_the_engine_runs(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    python = another_python(pytester.path)
    for arguments in ([], [f"--llmperf-python=fake={python}"], []):
        assert llmperf(ONE, "--llmperf-record", *arguments).ret == 0
    assert (pytester.path / "mark").exists()
    (lines,) = (path.read_text() for path in (pytester.path / "baselines").glob("*/*.jsonl"))
    assert python.name not in lines
    llmperf(ONE).assert_outcomes(passed=1)  # by three sessions; two would be no baseline


@pytest.mark.parametrize("engine", ["vllm", "exllamav2"])
def test_an_engine_that_has_an_interpreter_of_its_own_is_not_asked_for_here(
    engine: str, llmperf: Run, pytester: pytest.Pytester
) -> None:
    """Not installed, or not in that environment: the second is for its worker to say."""
    source = f"""
@pytest.mark.requires(backend="{engine}")
def test_required(load_model):
    load_model("synthetic:llama-15m", backend="{engine}")
"""
    result = llmperf(source, "-rs")
    result.stdout.fnmatch_lines([f"*backend {engine} is not installed: pip install {engine}, in*"])
    python = another_python(pytester.path)
    result = llmperf(source, "-rs", f"--llmperf-python={engine}={python}")
    result.stdout.fnmatch_lines([f"*cannot import {engine}: No module named '{engine}'*"])


def test_an_interpreter_that_cannot_run_a_worker_fails_the_test(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    python = pytester.path / "python"
    python.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    python.chmod(0o755)
    result = llmperf(ONE, f"--llmperf-python=fake={python}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{python} is no Python that can run a worker: no"])
