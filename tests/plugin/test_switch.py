"""What happens without ``--llmperf``, and to tests that are none of ours?"""

import subprocess
import sys

import pytest

from tests.plugin.conftest import Run

FOREIGN = """
import pytest

@pytest.fixture
def measure():
    return 42

@pytest.mark.perf(whatever="this means something else here", limit=-1)
@pytest.mark.requires("nothing of ours")
def test_foreign_marker():
    pass

@pytest.mark.perf(min_tsp=3)
def test_foreign_fixture(measure):
    assert measure == 42
"""


@pytest.mark.parametrize("arguments", [[], ["--llmperf"]])
def test_foreign_markers_and_fixtures_are_left_alone(
    pytester: pytest.Pytester, arguments: list[str]
) -> None:
    pytester.makepyfile(FOREIGN)
    pytester.runpytest(*arguments).assert_outcomes(passed=2)


def test_off_skips_with_the_switch_named(llmperf: Run) -> None:
    result = llmperf(
        """
def test_one(load_model, measure):
    measure(load(load_model))

def test_two(hardware):
    assert hardware.cpu

def test_plain():
    pass
""",
        "-rs",
        off=True,
    )
    result.assert_outcomes(skipped=2, passed=1)
    result.stdout.fnmatch_lines(["*measures only under --llmperf*"])


def test_off_imports_no_engine_and_none_of_our_rooms(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(load_model, measure): pass")
    script = pytester.makepyfile(
        look="""
import sys, pytest
code = pytest.main(["-q", "test_off_imports_no_engine_and_none_of_our_rooms.py"])
heavy = ["torch", "transformers", "llama_cpp", "numpy", "msgspec", "rich", "psutil"]
print("exit", int(code))
print("heavy", [name for name in heavy if name in sys.modules])
print("ours", sorted(n for n in sys.modules if n.startswith("pytest_llmperf.")))
"""
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd=pytester.path
    )
    assert "1 skipped" in done.stdout
    assert "exit 0" in done.stdout
    assert "heavy []" in done.stdout
    ours = ["fixtures", "hookspecs", "limits", "markers", "options", "plugin"]
    assert f"ours {[f'pytest_llmperf.{name}' for name in ours]}" in done.stdout


def test_on_imports_no_engine_into_the_pytest_process(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import sys

def test_one(load_model, measure):
    measure(load_model("fake:x", backend="fake"), prompt_tokens=4, new_tokens=4)
    for name in ("torch", "transformers", "llama_cpp", "gguf", "pynvml"):
        assert name not in sys.modules
"""
    )
    result = pytester.runpytest_subprocess("--llmperf")
    result.stdout.fnmatch_lines(["*1 without baseline*"])
    assert result.ret == 0


def test_suite_without_the_switch_is_a_usage_error(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("--llmperf-suite=smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--llmperf-suite measures: add --llmperf*"])


def test_settings_of_a_run_that_does_not_measure_disturb_nobody(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPERF_SUITE", "smoke")
    monkeypatch.setenv("LLMPERF_SAMPLES", "3")
    pytester.makepyfile("def test_one(): pass")
    pytester.runpytest().assert_outcomes(passed=1)


def test_collecting_only_measures_and_writes_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(load_model): pass")
    pytester.path.joinpath("result.json").write_text("of the last run")
    result = pytester.runpytest("--llmperf", "--co", "-q", "--llmperf-json=result.json")
    assert result.ret == 0
    assert pytester.path.joinpath("result.json").read_text() == "of the last run"


def test_a_cache_that_cannot_be_written_does_not_stop_the_run(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath(".pytest_cache").write_text("in the way")
    pytester.makepyfile("""
def test_one(load_model, measure):
    measure(load_model("fake:x", backend="fake"))
""")
    result = pytester.runpytest("--llmperf", "-W", "ignore")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["llmperf logs: */pytest-llmperf-*"])


def test_hundreds_of_open_files_are_no_obstacle(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import resource

def test_one(load_model, measure):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    leaked = [open("/dev/null") for _ in range(1100)]
    measure(load_model("fake:x", backend="fake"))
    assert leaked[-1].fileno() > 1023
    for file in leaked:
        file.close()
""")
    assert pytester.runpytest_subprocess("--llmperf").ret == 0
