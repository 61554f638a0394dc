"""Does every request of a text get a passage of its own?"""

from __future__ import annotations

import pytest

from pytest_llmperf.measure.passages import Passages


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 12, 97, 100, 1024])
def test_every_place_comes_once(count: int) -> None:
    text = Passages(range(count + 4))
    begins = [text.take(number, 5, "seed")[0] for number in range(text.count(5))]
    assert sorted(begins) == list(range(count))


def test_neighbours_in_time_are_none_in_the_text() -> None:
    text = Passages(range(10_000))
    begins = [text.take(number, 100, "seed")[0] for number in range(20)]
    apart = [abs(one - other) for one in begins for other in begins if one != other]
    assert min(apart) > 100


def test_the_seed_decides_the_order() -> None:
    text = Passages(range(1000))
    assert text.take(0, 5, "one") == text.take(0, 5, "one") != text.take(0, 5, "another")


def test_what_goes_before_every_text_takes_the_first_place() -> None:
    plain, begun = (Passages(range(50), begin).take(3, 4, "seed") for begin in (None, 99))
    assert begun == [99, *plain[1:]]


def test_a_text_that_is_too_short_has_none() -> None:
    assert Passages(range(3)).count(4) == 0
    with pytest.raises(ValueError, match="0 passages of 4 tokens"):
        Passages(range(3)).take(0, 4, "seed")
