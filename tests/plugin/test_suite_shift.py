"""Is a loss of all tests together one red case of its own, that can be accepted?"""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.plugin.conftest import Session, lines

SUITE = """
@pytest.mark.parametrize("number", range(6))
def test_chat(load_model, measure, number):
    measure(load(load_model, noise_cv=0.002, pace_file="pace"), prompt_tokens=8 + number)
"""


@pytest.fixture
def suite_history(session: Session) -> None:
    """Six sessions of twelve pairs."""
    for pace in (1.0, 1.004, 0.997, 1.002, 0.996, 1.003):
        assert session("--llmperf-record", pace=str(pace), source=SUITE).ret == 0


@pytest.mark.usefixtures("suite_history")
def test_a_loss_that_no_test_shows_alone_is_one_red_case(
    session: Session, pytester: pytest.Pytester
) -> None:
    green = session(source=SUITE)
    green.assert_outcomes(passed=7)
    green.stdout.fnmatch_lines(["  suite: *% over 12 metrics, red below −*.* %"])
    for processes in ("0", "2"):
        result = session("--junitxml=out.xml", "-n", processes, pace="0.965", source=SUITE)
        assert result.ret == 1
        result.assert_outcomes(passed=6, failed=1)
        result.stdout.fnmatch_lines(
            [
                "suite regressed: the median of 12 pairs is −3.* % against its baselines",
                "  baseline   6 sessions; a loss of more than * % is no accident",
                "  if wanted  --llmperf-accept=WHY makes it the new normal of all these pairs",
                "llmperf: *: 6 passed, 1 suite regressed",
                "  suite: regressed, −3.* % over 12 metrics, red below −*.* %",
            ]
        )
        cases = ElementTree.parse(pytester.path / "out.xml").getroot().findall(".//testcase")
        failed = [case.get("name") for case in cases if case.find("failure") is not None]
        assert (len(cases), failed) == (7, ["suite-shift"])


@pytest.mark.usefixtures("suite_history")
def test_a_loss_of_all_tests_can_be_accepted(session: Session, pytester: pytest.Pytester) -> None:
    slower = {"pace": "0.965", "source": SUITE}
    result = session("--llmperf-accept=safer kernels", **slower)
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["recorded: 18 pairs in baselines, 12 accepted as the new normal"])
    reasons = [line["reason"] for line in lines(pytester.path, "epoch")]
    assert (reasons.count("first session"), reasons.count("safer kernels")) == (18, 12)
    assert session("--llmperf-record", **slower).ret == 0
