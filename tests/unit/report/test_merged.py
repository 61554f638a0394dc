"""Do results of several machines stand apart, and shards of one run together?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.report.merged import Overlap, merge, outcome
from pytest_llmperf.report.result import FORMAT, VERSION, JudgedTest, RunResult
from tests.unit.report.test_result import laptop


def a_test(name: str, outcome: str = "passed") -> JudgedTest:
    return JudgedTest(test=name, outcome=outcome, verdict=None, measurements=[])


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Hardware:
    return laptop(tmp_path_factory.mktemp("laptop"))


def a_result(
    hardware: Hardware,
    *tests: JudgedTest,
    fingerprint: str = "here",
    created: str = "2026-01-01",
) -> RunResult:
    return RunResult(
        format=FORMAT,
        version=VERSION,
        created=created,
        llmperf="1.0",
        strict=False,
        hardware=msgspec.structs.replace(hardware, fingerprint=fingerprint),
        tests=list(tests),
        notes=[f"note of {created}"],
    )


def test_shards_of_one_machine_are_one(machine: Hardware) -> None:
    (found,) = merge(
        {
            "a.json": a_result(machine, a_test("one"), created="2026-01-02"),
            "b.json": a_result(machine, a_test("two", "failed"), created="2026-01-01"),
        }
    )
    assert [each.test for each in found.tests] == ["one", "two"]
    assert [each.test for each in found.red] == ["two"]
    assert found.created == "2026-01-02"
    assert found.notes == ["note of 2026-01-02", "note of 2026-01-01"]
    assert found.verdicts == {}


def test_machines_stand_apart_and_may_run_the_same_tests(machine: Hardware) -> None:
    here, there = merge(
        {
            "a.json": a_result(machine, a_test("one")),
            "b.json": a_result(machine, a_test("one"), fingerprint="there"),
        }
    )
    assert (here.hardware.fingerprint, there.hardware.fingerprint) == ("here", "there")


def test_the_same_test_twice_on_one_machine_is_refused(machine: Hardware) -> None:
    with pytest.raises(Overlap, match=r"one is in a\.json and in b\.json, of the same machine"):
        merge(
            {"a.json": a_result(machine, a_test("one")), "b.json": a_result(machine, a_test("one"))}
        )


def test_every_verdict_is_counted(machine: Hardware) -> None:
    passed = msgspec.structs.replace(a_test("one"), verdict=Verdict.PASSED)
    (found,) = merge({"a.json": a_result(machine, passed)})
    assert found.verdicts == {Verdict.PASSED: 1}


@pytest.mark.parametrize(
    ("verdicts", "outcomes", "word"),
    [
        ([], [], "NOTHING_MEASURED"),
        ([None], ["skipped"], "NOTHING_MEASURED"),
        ([Verdict.PASSED, Verdict.INCONCLUSIVE], ["passed"] * 2, "INCONCLUSIVE"),
        ([Verdict.REGRESSED, Verdict.PASSED], ["failed", "passed"], "REGRESSED"),
        ([Verdict.OVER_BUDGET, Verdict.PASSED], ["failed", "failed"], "FAILED"),
    ],
)
def test_a_run_comes_to_its_worst_verdict(
    machine: Hardware, verdicts: list[Verdict | None], outcomes: list[str], word: str
) -> None:
    tests = [
        msgspec.structs.replace(a_test(f"t.py::t{number}", outcome), verdict=verdict)
        for number, (verdict, outcome) in enumerate(zip(verdicts, outcomes, strict=True))
    ]
    assert outcome_of(machine, *tests) == word


def outcome_of(machine: Hardware, *tests: JudgedTest) -> str:
    return outcome(merge({"a.json": a_result(machine, *tests)}))


SHIFT = SuiteShift(verdict=Verdict.REGRESSED, effect=-0.02, needed=-0.01, pairs=9, sessions=9)


@pytest.mark.parametrize(
    ("status", "of_the_test", "shifts", "left"),
    [
        (None, "passed", [], ()),
        (0, "passed", [], ()),
        (5, "skipped", [], ()),
        (1, "failed", [], ()),
        (1, "error", [], ()),
        (1, "passed", [SHIFT], ()),
        (1, "passed", [], (1,)),
        (2, "passed", [], (2,)),
        (3, "failed", [], (3,)),
        (4, "failed", [SHIFT], (4,)),
    ],
)
def test_an_exit_status_that_no_test_explains_is_kept(
    machine: Hardware, status: int | None, of_the_test: str, shifts: list[SuiteShift], left: object
) -> None:
    result = a_result(machine, a_test("t.py::one", of_the_test))
    ended = msgspec.structs.replace(result, exit_status=status, suite_shifts=shifts)
    (found,) = merge({"a.json": ended})
    assert found.exit_statuses == left
    assert found.failed_beside is bool(left)


def test_a_shard_that_broke_off_makes_all_of_them_incomplete(machine: Hardware) -> None:
    whole = msgspec.structs.replace(a_result(machine, a_test("one")), selected=1, exit_status=0)
    cut = msgspec.structs.replace(
        a_result(machine, a_test("two")), selected=50, exit_status=2, interrupted=True
    )
    (found,) = merge({"a.json": whole, "b.json": cut})
    assert (found.is_complete, found.missing, found.exit_statuses) == (False, 49, ())
    assert outcome([found]) == "FAILED"
    (older,) = merge({"b.json": msgspec.structs.replace(cut, selected=None, exit_status=None)})
    assert (older.is_complete, older.missing) == (False, 0)
