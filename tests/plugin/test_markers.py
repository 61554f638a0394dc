"""Is a mistake in a marker found at collection, with the test and the keyword named?"""

import pytest

from tests.plugin.conftest import Run

CASES = [
    ("perf(min_tsp=3)",
     "*test_it.py::test_one: @perf: unknown keyword 'min_tsp', did you mean 'min_tps'?"),
    ("perf(max_tps=3)", "*only the harmful direction has a limit, 'min_tps'"),
    ('perf(min_tps="20")', "*@perf: min_tps must be a number, not '20'"),
    ("perf(min_tps=-1)", "*@perf: min_tps must be greater than 0, not -1"),
    ("perf(20)", "*@perf takes keywords only, not 20"),
    ("perf(samples=2)", "*@perf: samples must lie between 5 and 1000, not 2"),
    ("requires(gpuu=True)", "*test_it.py::test_one: @requires: unknown keyword 'gpuu'*'gpu'*"),
    ('requires(vram_gb="24")', "*@requires: *vram_gb*"),
    ('requires(cpu="avx1024")', "*@requires: *avx1024*"),
]  # fmt: skip


@pytest.mark.parametrize("switch", ["off", "on"])
@pytest.mark.parametrize(("marker", "said"), CASES)
def test_mistake_is_a_collection_error(llmperf: Run, marker: str, said: str, switch: str) -> None:
    source = f"@pytest.mark.{marker}\ndef test_one(load_model, measure): pass"
    result = llmperf(source, off=switch == "off")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([said])
    result.assert_outcomes(errors=1)


def test_mistake_in_a_parameter_s_marks_is_found(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.parametrize("q", [pytest.param("a", marks=pytest.mark.perf(min_tps=0))])
def test_one(load_model, measure, q): pass
""")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = "ERROR: test_it.py::test_one[[]a[]]: @perf: min_tps must be greater than 0, not 0"
    result.stderr.fnmatch_lines([said])


def test_parameters_may_come_from_an_iterator(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=200)
@pytest.mark.parametrize("speed", list(map(float, [100, 150])))
def test_one(load_model, measure, speed):
    measure(load(load_model, decode_tps=speed))

def pytest_generate_tests(metafunc):
    if "late" in metafunc.fixturenames:
        metafunc.parametrize("late", iter([100.0, 150.0]))

@pytest.mark.perf(min_tps=200)
def test_two(load_model, measure, late):
    measure(load(load_model, decode_tps=late))
""")
    result.assert_outcomes(failed=4)


def test_mistake_on_a_unittest_method_is_found(llmperf: Run) -> None:
    result = llmperf("""
import unittest

class TestIt(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def tools(self, load_model, measure):
        pass

    @pytest.mark.perf(min_tsp=3)
    def test_one(self):
        pass
""")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *test_one: @perf: unknown keyword 'min_tsp'*"])


def test_mistake_is_found_under_xdist(llmperf: Run) -> None:
    source = "@pytest.mark.perf(min_tsp=3)\ndef test_one(load_model, measure): pass"
    result = llmperf(source, "-n", "1")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*did you mean 'min_tps'?*"])


def test_closest_marker_wins(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=500, max_load_s=9)
class TestIt:
    @pytest.mark.perf(min_tps=50)
    def test_one(self, load_model, measure):
        measure(load(load_model))
""")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*2 budgets judged: 1 passed*"])


def test_typed_markers_are_the_same(llmperf: Run) -> None:
    result = llmperf("""
from pytest_llmperf import perf, requires

@requires(ram_gb=100000)
@perf(min_tps=50)
def test_one(load_model, measure):
    measure(load(load_model))

@perf(min_tps=50)
def test_two(load_model, measure):
    measure(load(load_model))
""", "-rs")  # fmt: skip
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*requires: needs 100000.0 GB RAM, has *"])


def test_markers_are_declared(pytester: pytest.Pytester) -> None:
    pytester.runpytest("--markers", "--strict-markers").stdout.fnmatch_lines(
        ["@pytest.mark.perf(min_tps=*", "@pytest.mark.requires(gpu=True*"]
    )


def test_flaky_reruns_are_switched_off(llmperf: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
def pytest_configure(config):
    config.addinivalue_line("markers", "flaky: of the plugin played here")
    config.pluginmanager.register(object(), "rerunfailures")
""")
    result = llmperf("""
def test_one(load_model, measure, request):
    assert request.node.get_closest_marker("flaky").kwargs == {"reruns": 0}
    measure(load(load_model))
""")
    assert result.ret == 0


def test_a_mistake_at_collection_is_no_interruption_of_tests(llmperf: Run) -> None:
    wrong = "import pytest\n@pytest.mark.perf(min_tsp=20)\ndef test_it(measure): pass"
    result = llmperf(wrong)
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*did you mean 'min_tps'?", "note: the run was over before*"])
    assert "0 of 0" not in result.stdout.str()
