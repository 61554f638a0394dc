"""How well does a measurement on this machine repeat itself?

Every limit of every other suite rests on this: the same model against itself, in fresh processes,
has to come out as equal. What each measurement must have for that is looked at, too: a warm-up,
five samples and more, and prompts that are the same in every run and never the same twice.
"""

import statistics
from collections.abc import Callable
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import Compare, LoadModel, Measure
from pytest_llmperf.measure import Measurement, Workload

from .conftest import Model

EQUAL = (0.87, 1.15)
"""Beyond it a difference of nothing would pass for a gain."""


@pytest.fixture
def subject(gguf: Model, own: str | None) -> dict[str, Any]:
    """What is measured."""
    return {**(gguf if own else {**gguf, "quantization": "Q4_K_M"}), "backend": "llama-cpp"}


@pytest.mark.claim("a measurement against itself comes out equal")
@perf(samples=5)
def test_the_same_against_itself_is_equal(
    compare: Compare, subject: dict[str, Any], record_property: Callable[[str, object], None]
) -> None:
    """Five pairs of fresh processes; what other programs take of one of them is averaged out."""
    found = compare({}, {}, **subject, prompt_tokens=64, new_tokens=24)
    assert found.ratio is not None
    assert found.low is not None
    assert found.high is not None
    processes = [*found.a, *found.b]
    speeds = [each.decode_tps.median for each in processes]
    record_property("decode", f"× {found.ratio:.2f} ({found.low:.2f}–{found.high:.2f})")
    spread = statistics.stdev(speeds) / statistics.mean(speeds)
    record_property("spread of ten processes (standard deviation)", f"{spread:.1%}")
    assert found.low < 1 < found.high or EQUAL[0] < found.ratio < EQUAL[1]
    if found.high / found.low > EQUAL[1] / EQUAL[0]:
        pytest.skip(
            f"this machine is too busy for five pairs to tell: {found.low:.2f} to {found.high:.2f}"
        )
    assert EQUAL[0] < of_medians(found.a, found.b, "prefill_tps") < EQUAL[1]
    assert len(processes) == 10
    sizes = [each.ram.median for each in processes]
    assert max(sizes) < 1.02 * min(sizes)


def of_medians(a: list[Measurement], b: list[Measurement], metric: str) -> float:
    """A's share of B's, each the median of its processes."""
    middles = [statistics.median(each.quantity(metric).median for each in arm) for arm in (a, b)]
    return middles[0] / middles[1]


@pytest.mark.quick
@pytest.mark.claim("a measurement warms up, and takes 5 to 10 samples")
def test_a_measurement_warms_up_and_takes_its_samples(
    load_model: LoadModel, measure: Measure, subject: dict[str, Any]
) -> None:
    seen = measure(load_model(**subject), prompt_tokens=64, new_tokens=32)
    assert 6 <= seen.warmup_samples <= 9
    assert 5 <= seen.decode_tps.n <= 10
    assert seen.decode_tps.values is not None
    assert len(set(seen.decode_tps.values)) > 1  # each was timed by itself
    assert seen.decode_tps.low <= seen.decode_tps.median <= seen.decode_tps.high
    unsteady = any("not steady" in finding for finding in seen.findings)
    assert unsteady is not seen.steady  # it is said


@pytest.mark.quick
@pytest.mark.claim("prompts are the same in every run")
def test_prompts_are_the_same_again_and_never_the_same_twice(
    load_model: LoadModel, measure: Measure, subject: dict[str, Any]
) -> None:
    seen = measure(load_model(**subject), prompt_tokens=16, new_tokens=8, batch=1, seed=7)
    workload, words = seen.workload, seen.engine.vocab_size
    again = Workload(prompt_tokens=16, new_tokens=8, seed=7)
    other = Workload(prompt_tokens=16, new_tokens=8, seed=8)
    prompts = [workload.request(number, words).prompts[0] for number in range(20)]
    assert prompts == [again.request(number, words).prompts[0] for number in range(20)]
    assert len({tuple(prompt) for prompt in prompts}) == 20
    assert prompts[0] != other.request(0, words).prompts[0]
