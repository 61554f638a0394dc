"""Is a choice called bad only where another is better for certain?"""

from __future__ import annotations

import pytest

from pytest_llmperf.report.pareto import Merit, dominates, front


def merits(*values: float, noise: float = 1.0) -> list[Merit]:
    return [Merit(value, noise) for value in values]


@pytest.mark.parametrize(
    ("one", "other", "does"),
    [
        ((10, 10), (5, 5), True),
        ((10, 10), (5, 10), True),
        ((10, 9.5), (5, 10), True),  # 0.5 is noise
        ((10, 5), (5, 10), False),
        ((10, 10), (9.5, 9.5), False),
        ((10, 10), (10, 10), False),
    ],
)
def test_worse_in_nothing_and_better_in_something(
    one: tuple[float, float], other: tuple[float, float], *, does: bool
) -> None:
    assert dominates(merits(*one), merits(*other)) is does
    assert not dominates(merits(*other), merits(*one))


def test_the_front() -> None:
    assert front([merits(10, 1), merits(5, 5), merits(3, 3), merits(1, 10)]) == [
        True, True, False, True,
    ]  # fmt: skip


def test_equal_ones_are_all_on_it() -> None:
    assert front([merits(5, 5), merits(5.5, 4.9), merits(1, 1)]) == [True, True, False]


def test_a_circle_dominates_nobody() -> None:
    """Each beats the next in one thing by more than noise, and is its equal in the others."""
    circle = [merits(2, 1, 0), merits(0, 2, 1), merits(1, 0, 2)]
    assert dominates(circle[0], circle[1])
    assert dominates(circle[1], circle[2])
    assert dominates(circle[2], circle[0])
    assert front(circle) == [True, True, True]
