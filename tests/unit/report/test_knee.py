"""Is the knee found where a series has one, denied where it has none, and hidden by noise alone?"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest

from pytest_llmperf.gate.verdict import TOLERANCE
from pytest_llmperf.measure.quantity import summarize
from pytest_llmperf.report.knee import Point, knee_text, noise_of


def told(series: Mapping[int, float], noise: float = TOLERANCE) -> str:
    """``noise``: no measurement has less."""
    return knee_text([Point(at, value, noise) for at, value in series.items()])


def grid(speed: Callable[[int], float], most: int = 8) -> dict[int, float]:
    """The speed at every whole number."""
    return {at: speed(at) for at in range(1, 1 + most)}


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ({1: 100, 2: 190, 4: 195, 8: 196}, "knee at 2: +3.2 % from 2 to 8"),
        ({1: 100, 2: 190, 4: 360, 8: 600}, "no knee up to 8: +67 % from 4 to 8"),
        ({1: 100, 2: 190, 4: 150, 8: 100}, "knee at 2: falls beyond, −47 % from 2 to 8"),
        ({512: 100, 1024: 80, 2048: 50}, "falls from 512 on: −50 % from 512 to 2048"),
        ({1: 100, 2: 101, 4: 102}, "no gain from 1 on: +2.0 % from 1 to 4"),
        ({1: 100, 2: 101, 4: 160, 8: 240}, "no knee up to 8: +50 % from 4 to 8"),
        ({0: 100, 16: 150, 32: 152}, "knee at 16: +1.3 % from 16 to 32"),
        # Of a series that is not one of doublings, 8 % may be worth it: 27 % a doubling.
        ({4: 100, 8: 140, 10: 151}, "no knee up to 10: +7.9 % from 8 to 10"),
        # No doubling after 3: what is left is judged as one.
        ({1: 100, 2: 200, 3: 300, 5: 300}, "knee at 3: +0.0 % from 3 to 5"),
    ],
)
def test_a_series_says_where_its_knee_is(series: dict[int, float], said: str) -> None:
    assert told(series) == said


@pytest.mark.parametrize(
    ("series", "said"),
    [
        (grid(lambda at: 100 * at), "no knee up to 8: +14 % from 7 to 8"),
        (grid(lambda at: 100 * at, most=16), "no knee up to 16: +6.7 % from 15 to 16"),
        (grid(lambda at: 100), "no gain from 1 on: +0.0 % from 1 to 8"),
        (grid(lambda at: 100 * min(at, 4)), "knee at 4: +0.0 % from 4 to 8"),
        (grid(lambda at: 100 * min(at, 5)), "knee at 5: +0.0 % from 5 to 8"),
        (grid(lambda at: 100 * min(at, 4), most=16), "knee at 4: +0.0 % from 4 to 16"),
        (
            grid(lambda at: 100 * min(at, 6 - at / 2)),
            "knee at 4: falls beyond, −50 % from 4 to 8",
        ),
        (
            {0: 100, 8: 100, 16: 100, 24: 100, 32: 100},
            "no gain from 0 on: +0.0 % from 0 to 32",
        ),
        ({0: 10, 8: 12, 16: 15, 24: 20, 32: 30}, "no knee up to 32: +50 % from 24 to 32"),
        ({0: 10, 8: 15, 16: 30, 24: 30, 32: 30}, "knee at 16: +0.0 % from 16 to 32"),
    ],
)
def test_steps_that_are_no_doublings_are_judged_together(
    series: dict[int, float], said: str
) -> None:
    assert told(series) == said


@pytest.mark.parametrize(
    ("series", "said"),
    [
        # 10 % a doubling would be 4.0 % from 6 to 8.
        (grid(lambda at: 100 * min(at, 6)), ", at 6 or beyond: +0.0 % from 6 to 8, ± 4.2 %"),
        ({1: 100, 2: 112, 4: 60}, ": +12 % from 1 to 2, ± 4.2 %"),
        # The first doubling brings little, but a part of it is surely a gain, and steep.
        (
            {4: 100, 5: 106, 6: 90, 7: 85, 8: 80},
            ": +6.0 % from 4 to 5, ± 4.2 %",
        ),
    ],
)
def test_what_noise_hides_is_not_told(series: dict[int, float], said: str) -> None:
    assert told(series) == f"noise hides the knee{said}"


def noisy(series: Mapping[int, float], spread: float) -> Iterator[dict[int, float]]:
    """The same 200 times, each value off by a share of normal distribution."""
    for seed in range(200):
        source = random.Random(seed)
        yield {at: value * math.exp(source.gauss(0, spread)) for at, value in series.items()}


@pytest.mark.parametrize("cores", [3, 4, 5])
def test_a_knee_among_real_noise_is_found_or_hidden_and_never_elsewhere(cores: int) -> None:
    threads = grid(lambda at: 100 * min(at, cores))
    found = Counter(told(series).partition(":")[0] for series in noisy(threads, 0.01))
    hidden = found.pop(f"noise hides the knee, at {cores} or beyond", 0)
    assert set(found) == {f"knee at {cores}"}
    assert hidden < 20


def test_restless_values_have_no_knee() -> None:
    flat = noisy(grid(lambda at: 100), 0.1)
    said = [told(series, noise=0.2) for series in flat]
    assert sum(each.startswith("noise hides the knee") for each in said) > 190


def test_losses_too_small_each_are_a_fall_together() -> None:
    series = {2**power: 100 * 0.97**power for power in range(8)}
    assert told(series, noise=0.03) == "falls from 1 on: −19 % from 1 to 128"


def test_noise_hides_a_knee_and_says_which_step() -> None:
    series = {1: 100.0, 2: 190.0, 4: 205.0}
    assert told(series, noise=0.001).startswith("knee at 2")
    assert told(series, noise=0.05) == (
        "noise hides the knee, at 2 or beyond: +7.9 % from 2 to 4, ± 7.1 %"
    )


def test_noise_before_a_certain_gain_hides_nothing() -> None:
    assert told({1: 100, 2: 110, 4: 400, 8: 404}, noise=0.03).startswith("knee at 4")


def test_a_median_is_as_unsure_as_its_samples_and_never_surer_than_a_process() -> None:
    restless = summarize([90.0, 95.0, 100.0, 105.0, 110.0], "tok/s")
    assert noise_of(restless) == pytest.approx(1.57 * 10 / math.sqrt(5) / 100)
    assert noise_of(summarize([100.0] * 10, "tok/s")) == TOLERANCE
