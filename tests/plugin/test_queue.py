"""What does a test get that measures a queue of requests of different lengths?"""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import Run

QUEUE = """
def test_it(load_model, measure):
    model = load_model("fake:any", backend="fake", decode_tps=100, prefill_tps=1000, {options})
    seen = measure(model, prompt_tokens=10, new_tokens={lengths}, batch={batch})
    print(f"{{seen.queue_tps.median:.6g}} tok/s {{seen.step_tokens.median:.6g}} a step")
"""


def run(
    llmperf: Run, options: str = "", lengths: str = "(2, 9)", batch: int = 5
) -> tuple[int, str]:
    source = QUEUE.format(options=options, lengths=lengths, batch=batch)
    result = llmperf(source, "-s", "--llmperf-json=out.json")
    return int(result.ret), result.stdout.str()


@pytest.mark.parametrize(("refill", "steps"), [(False, 17), (True, 15)])
def test_a_queue_is_told_as_a_whole(
    llmperf: Run, pytester: pytest.Pytester, refill: bool, steps: int
) -> None:
    code, told = run(llmperf, f"slots=2, refill={refill}")
    assert code == 0
    seconds = steps / 100  # a step of 10 ms each, as reading the prompt of the first
    assert f"{28 / seconds:.6g} tok/s {28 / steps:.6g} a step" in told
    assert f"queue {28 / seconds:.3g} tok/s" in told
    (found,) = json.loads((pytester.path / "out.json").read_bytes())["tests"][0]["measurements"]
    measurement = found["measurement"]
    assert {"queue_tps", "step_tokens", "e2e"} <= set(measurement["metrics"])
    assert not {"ttft", "prefill_tps", "decode_tps", "itl", "tpot"} & set(measurement["metrics"])
    assert measurement["absent"]["decode_tps"] == "the sequences of a queue are not in step"


def test_a_request_that_is_cut_short_is_invalid(llmperf: Run) -> None:
    code, told = run(llmperf, "missing_tokens=1")
    assert code == 1
    assert "of the queue got" in told


def test_a_limit_on_a_queue_that_is_not_kept_is_red(llmperf: Run) -> None:
    source = QUEUE.format(options="slots=2", lengths="(2, 9)", batch=5)
    marked = "import pytest\n@pytest.mark.perf(min_step_tokens=1.9)" + source
    result = llmperf(marked)
    result.assert_outcomes(failed=1)
    assert "tokens a step" in result.stdout.str()


@pytest.mark.parametrize(
    ("lengths", "batch", "words"),
    [
        ("(9, 2)", 5, "such as (8, 64), not (9, 2)"),
        ("(1, 2, 3)", 5, "such as (8, 64), not (1, 2, 3)"),
        ("(2, 9)", 1, "takes batch=2 or more requests"),
    ],
)
def test_what_is_no_queue_is_named(llmperf: Run, lengths: str, batch: int, words: str) -> None:
    code, told = run(llmperf, "", lengths, batch)
    assert code == 1
    assert words in " ".join(told.split())
