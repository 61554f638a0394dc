"""Which tests make a series, and is it told as one within 80 columns?"""

from __future__ import annotations

import msgspec

from pytest_llmperf.measure import Measurement
from pytest_llmperf.report.result import JudgedTest, Parameter  # pytest would collect Test…
from pytest_llmperf.report.sweep import find_series, sweep_lines
from tests.unit.gate.test_contract import measurement
from tests.unit.report.test_result import judge_it, one_test

SPEEDS = {1: 100.0, 2: 190.0, 4: 195.0}


def case(name: str, speed: float = 100.0, **parameters: Parameter) -> JudgedTest:
    return told(measurement(decode_tps=speed, ttft=50, ram=0.25), name, parameters)


def told(seen: Measurement, name: str, parameters: dict[str, Parameter]) -> JudgedTest:
    """A test that measured this under these parameters."""
    text = "-".join(map(str, parameters.values()))
    test = one_test(judge_it(seen), test=f"t.py::test_{name}[{text}]")
    return msgspec.structs.replace(test, parameters=parameters)


def threads(**others: Parameter) -> list[JudgedTest]:
    return [case("threads", speed, n_threads=at, **others) for at, speed in SPEEDS.items()]


def test_a_series_is_a_table_and_its_knee() -> None:
    assert sweep_lines(threads()) == [
        "test_threads: by n_threads",
        "  n_threads  decode  first token   RAM",
        "              tok/s           ms   GiB",
        "  1             100         50.0  0.25",
        "  2             190         50.0  0.25",
        "  4             195         50.0  0.25",
        "  decode: knee at 2: +2.6 % from 2 to 4",
    ]


def test_a_queue_has_its_own_columns_and_knee() -> None:
    queues = [
        told(measurement(queue_tps=speed, step_tokens=tokens, ram=0.25), "queue", {"requests": at})
        for at, speed, tokens in ((1, 100, 1), (2, 190, 1.9), (4, 195, 3.5))
    ]
    assert sweep_lines(queues) == [
        "test_queue: by requests",
        "  requests  queue  tokens a step   RAM",
        "            tok/s                  GiB",
        "  1           100           1.00  0.25",
        "  2           190           1.90  0.25",
        "  4           195           3.50  0.25",
        "  queue: knee at 2: +2.6 % from 2 to 4",
    ]


def test_in_whichever_order_they_ran() -> None:
    assert sweep_lines(threads()[::-1]) == sweep_lines(threads())


def test_two_values_are_no_series() -> None:
    assert find_series(threads()[:2]) == []


def test_other_parameters_have_to_be_equal() -> None:
    both = [*threads(level="Q4_K_M"), *threads(level="Q8_0")]
    assert [each.others for each in find_series(both)] == [
        (("level", "Q4_K_M"),),
        (("level", "Q8_0"),),
    ]
    assert sweep_lines(both)[0] == "test_threads, level Q4_K_M: by n_threads"
    in_step = [case("steps", level=level, bits=at) for at, level in enumerate("abc")]
    assert find_series(in_step) == []


def test_a_grid_is_a_series_for_each_row_and_column() -> None:
    cells = [case("grid", a=a, b=b) for a in (1, 2, 3) for b in (1, 2, 4)]
    assert len(find_series(cells)) == 6


def test_switches_and_words_are_no_numbers() -> None:
    assert find_series([case("x", on=on) for on in (True, False, None, "4", "5")]) == []


def test_what_is_invalid_is_left_out() -> None:
    broken = one_test(judge_it(measurement(invalid="too few tokens")), test="t.py::test_threads[8]")
    broken = msgspec.structs.replace(broken, parameters={"n_threads": 8})
    assert sweep_lines([*threads(), broken]) == sweep_lines(threads())


def test_minus_one_is_no_amount() -> None:
    layers = [case("layers", n_gpu_layers=at) for at in (-1, 0, 8, 16)]
    assert sweep_lines(layers)[-1] == "  decode: no knee is told, -1 is no amount"


def test_a_long_name_is_folded() -> None:
    long = [case("x" * 100, n=at, also="y z " * 30) for at in (1, 2, 3)]
    words = " ".join(sweep_lines(long))
    assert "x" * 100 in words
    assert all(len(line) <= 80 or " " not in line.strip() for line in sweep_lines(long))
