"""Do the options do what they say, from wherever they are set?"""

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
        ("--llmperf-samples=2", "*--llmperf-samples='2': must be a whole number within 5 and 1000"),
        ("--llmperf-time-budget=-1", "*--llmperf-time-budget='-1': must be a number of seconds*"),
        (
            "--llmperf-second-look=maybe",
            "*must be on, off, or a number of fresh workers*",
        ),
        ("--llmperf-accept= ", "*--llmperf-accept=' ': must say why"),
        ("--llmperf-require=npu", "*can only be gpu"),
        ("--llmperf-suite=smokey", "*no suite 'smokey', did you mean 'smoke'?*"),
    ],
)
def test_bad_value_is_a_usage_error(llmperf: Run, argument: str, said: str) -> None:
    result = llmperf(ONE, argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


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
