"""What becomes of a claim by the tests that stand for it?"""

from __future__ import annotations

import pytest

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.claims import Holds, claim_lines, judged_claims
from pytest_llmperf.report.result import Claim, JudgedTest


def a_test(
    claim: str | None, outcome: str, *, instead: str = "", verdict: Verdict | None = None
) -> JudgedTest:
    return JudgedTest(
        test=f"test_{outcome}",
        outcome=outcome,
        verdict=verdict,
        measurements=[],
        claim=None if claim is None else Claim(text=claim, instead=instead),
        reason=None if outcome == "passed" else "no card",
    )


@pytest.mark.parametrize(
    ("outcomes", "holds"),
    [
        (["passed"], Holds.CONFIRMED),
        (["passed", "skipped"], Holds.CONFIRMED),
        (["skipped", "skipped"], Holds.NOT_TESTABLE),
        (["passed", "failed"], Holds.NOT_CONFIRMED),
        (["error"], Holds.NOT_CONFIRMED),
    ],
)
def test_a_failure_weighs_more_than_a_pass_and_that_more_than_a_skip(
    outcomes: list[str], holds: Holds
) -> None:
    (found,) = judged_claims([a_test("less memory", each) for each in outcomes])
    assert found.holds is holds
    in_part = "1 of 2 cases, for the others: no card" if "skipped" in outcomes else ""
    assert found.why == (in_part if holds is Holds.CONFIRMED else "no card")


def test_one_whose_opposite_was_shown_is_refuted_with_what_is_true() -> None:
    (found,) = judged_claims([a_test("half", "passed", instead="a third")])
    assert (found.holds, found.why) == (Holds.REFUTED, "a third")
    (found,) = judged_claims([a_test("half", "failed", instead="a third")])
    assert found.holds is Holds.NOT_CONFIRMED


def test_what_was_measured_and_does_not_tell_is_undecided() -> None:
    (found,) = judged_claims([a_test("faster", "passed", verdict=Verdict.INCONCLUSIVE)])
    assert found.holds is Holds.UNDECIDED


def test_lines_count_all_and_name_what_does_not_hold() -> None:
    tests = [
        a_test("small", "passed"),
        a_test("half", "passed", instead="a third"),
        a_test("on a card", "skipped"),
        a_test(None, "passed"),
    ]
    assert list(claim_lines(tests)) == [
        "claims of the guide: 1 confirmed, 1 refuted, 1 not testable here",
        "  refuted: half",
        "    a third",
    ]
    assert list(claim_lines([a_test(None, "passed")])) == []
