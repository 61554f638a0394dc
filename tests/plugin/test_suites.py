"""Are the shipped suites found, in a checkout and in an installed wheel?"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMOKE = ("--llmperf", "--llmperf-suite=smoke", "--llmperf-backend=fake", "--llmperf-model=fake:x")


def test_suite_is_found_in_a_checkout(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest(*SMOKE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*2 budgets judged: 1 passed*"])


def test_suite_takes_the_place_of_configured_paths_but_not_of_given_ones(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\ntestpaths = ["mine"]')
    pytester.mkdir("mine").joinpath("test_mine.py").write_text("def test_mine(): pass")
    pytester.runpytest(*SMOKE).assert_outcomes(passed=1)
    pytester.runpytest(*SMOKE, "mine").assert_outcomes(passed=2)


def test_suite_under_xdist(pytester: pytest.Pytester) -> None:
    pytester.runpytest(*SMOKE, "-n", "1").assert_outcomes(passed=1)


def test_suite_is_found_in_an_installed_wheel(tmp_path: Path) -> None:
    """The wheel as a user gets it, beside the dependencies that are installed here."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / ".venv"
    venv.create(target, with_pip=False, symlinks=True)
    site = next(target.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, capture_output=True)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    # Of this environment's packages all but the editable install, which is a .pth file there.
    run = subprocess.run(
        [target / "bin/python", "-m", "pytest", *SMOKE, "-q"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{here}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in run.stdout, run.stdout + run.stderr
    assert (site / "pytest_llmperf/suites/test_smoke.py").exists()
    assert str(ROOT) not in run.stdout
    collected = subprocess.run(
        [target / "bin/python", "-m", "pytest", "--llmperf", "--llmperf-suite", "--collect-only"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{here}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout
    assert "test_mmap.py" in collected.stdout


def test_a_suite_tells_which_claims_hold(pytester: pytest.Pytester) -> None:
    told = pytester.runpytest(
        "--llmperf", "--llmperf-suite=quantization_gguf", "-k", "table", "--llmperf-json=r.json"
    )
    told.assert_outcomes(passed=7)
    told.stdout.fnmatch_lines(
        [
            "claims of the guide: 1 confirmed, 1 refuted",
            "*refuted: the sizes of a 7B*",
            "*Q6_K 5.5*",
        ]
    )
    tests = json.loads((pytester.path / "r.json").read_bytes())["tests"]
    assert {each["claim"]["instead"] for each in tests} == {"", "Q6_K 5.5, Q3_K_M 3.3, Q2_K 2.5 GB"}


def test_a_marker_claim_elsewhere_is_somebody_elses(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.claim\ndef test_it(): pass")
    told = pytester.runpytest("--llmperf", "-W", "ignore")
    told.assert_outcomes(passed=1)
    told.stdout.no_fnmatch_line("*claims*")


def test_a_marker_claim_beside_a_suite_is_somebody_elses(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="""
import pytest

@pytest.mark.claim
def test_bare(): pass

@pytest.mark.claim("of a ticket", "in words")
def test_other(): pass

@pytest.mark.claim("mine")
def test_alike(): pass
"""
    )
    told = pytester.runpytest(*SMOKE, "test_mine.py", "-W", "ignore", "--llmperf-json=r.json")
    told.assert_outcomes(passed=4)
    told.stdout.no_fnmatch_line("*claims*")
    (test,) = json.loads((pytester.path / "r.json").read_bytes())["tests"]
    assert test["test"].startswith("test_smoke.py::")


def test_the_short_form_has_tests_of_most_suites(pytester: pytest.Pytester) -> None:
    told = pytester.runpytest("--llmperf", "--llmperf-suite", "-m", "quick", "--collect-only")
    assert told.ret == 0
    files = [line for line in told.outlines if "<Module test_" in line]
    assert len(files) > 12, files
