"""Is an engine that generates another number of tokens than asked ever taken for a fast one?"""

from __future__ import annotations

import pytest

from tests.faults.conftest import RunPytest

TESTS = """
import pytest

@pytest.mark.perf(min_tps=1)
def test_count(load_model, measure):
    model = load_model("synthetic:llama-15m", backend="fake", **{options!r})
    measurement = measure(model, prompt_tokens=8, new_tokens=16)
    assert measurement.invalid
    assert set(measurement.metrics) <= {{"load", "ram", "ram_anon"}}
"""


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"missing_tokens": 1}, 15),
        ({"missing_tokens": 16}, 0),
        ({"extra_tokens": 1}, 17),
        ({"extra_tokens": 4000}, 4016),
    ],
)
def test_another_count_of_tokens_is_invalid_and_red(
    options: dict[str, int], count: int, run_pytest: RunPytest
) -> None:
    run = run_pytest(TESTS.format(options=options))
    assert run.finish() == 1
    assert f"measurement invalid: {count} tokens generated, 16 asked for" in run.output
    assert "1 measurement, " in run.output
    assert "1 invalid" in run.output
