"""Are markers read together, the closest first, and refused by name?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.hardware import Requirement
from pytest_llmperf.markers import BadMarker, Requires, check_markers, read_perf, read_requires

WHERE = "tests/test_chat.py::test_chat"


def test_the_typed_markers_are_pytests_own() -> None:
    assert perf(min_tps=20).mark == pytest.mark.perf(min_tps=20).mark
    assert requires(gpu=True).mark == pytest.mark.requires(gpu=True).mark


def test_typed_requirements_are_those_there_are() -> None:
    assert set(Requires.__annotations__) == {
        field.name for field in msgspec.structs.fields(Requirement)
    }


def test_the_closest_mark_wins_and_the_others_add() -> None:
    marks = [perf(min_tps=20).mark, perf(min_tps=5, max_ttft_ms=800, samples=7).mark]
    limits = read_perf(WHERE, marks)
    assert [budget.text for budget in limits.budgets] == ["min_tps=20", "max_ttft_ms=800"]
    assert limits.samples == 7


def test_the_closest_requirement_wins_and_the_others_add() -> None:
    marks = [requires(vram_gb=24).mark, requires(vram_gb=8, gpu=True).mark]
    assert read_requires(WHERE, marks) == Requirement(vram_gb=24, gpu=True)


def test_no_marks_ask_for_nothing() -> None:
    assert read_perf(WHERE, []).budgets == ()
    assert read_requires(WHERE, []) == Requirement()


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (
            pytest.mark.perf(min_tsp=20),
            f"{WHERE}: @perf: unknown keyword 'min_tsp', did you mean 'min_tps'?",
        ),
        (pytest.mark.perf(min_tps="20"), f"{WHERE}: @perf: min_tps must be a number, not '20'"),
        (pytest.mark.perf(20), f"{WHERE}: @perf takes keywords only, not 20"),
        (pytest.mark.requires("gpu"), f"{WHERE}: @requires takes keywords only, not 'gpu'"),
        (
            pytest.mark.requires(gpus=0),
            f"{WHERE}: @requires: gpus=0: must be at least 1",
        ),
    ],
)
def test_a_bad_mark_names_the_test_and_the_keyword(
    mark: pytest.MarkDecorator, message: str
) -> None:
    with pytest.raises(BadMarker) as caught:
        check_markers(WHERE, [mark.mark])
    assert str(caught.value) == message


def test_every_mark_is_checked_not_just_the_closest() -> None:
    marks = [pytest.mark.perf(min_tps=20).mark, pytest.mark.perf(min_tps=-1).mark]
    assert read_perf(WHERE, marks).budgets[0].limit == 20
    with pytest.raises(BadMarker, match="greater than 0, not -1"):
        check_markers(WHERE, marks)


def test_marks_of_others_are_left_alone() -> None:
    check_markers(WHERE, [pytest.mark.usefixtures("min_tsp").mark, pytest.mark.skip("no").mark])


def test_closest_wins_over_an_alias_too() -> None:
    near, far = pytest.mark.perf(min_tps=10).mark, pytest.mark.perf(min_decode_tps=30).mark
    (budget,) = read_perf("test_x", [near, far]).budgets
    assert budget.limit == 10
