"""Is every wrong limit refused with its name and cure, and every right one read as meant?"""

from __future__ import annotations

import math

import pytest

from pytest_llmperf.gate.budget import BadLimit, Limits, read_limits


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("min_tsp", "unknown keyword 'min_tsp', did you mean 'min_tps'?"),
        ("max_ttft", "unknown keyword 'max_ttft', did you mean 'max_ttft_ms'?"),
        ("max_tfft_p95_ms", "unknown keyword 'max_tfft_p95_ms', did you mean 'max_ttft_p95_ms'?"),
        ("max_vram", "unknown keyword 'max_vram', did you mean 'max_vram_gb'?"),
        ("sample", "unknown keyword 'sample', did you mean 'samples'?"),
        ("timeout", "unknown keyword 'timeout', did you mean 'timeout_s'?"),
        ("max_regresion", "unknown keyword 'max_regresion', did you mean 'max_regression'?"),
        ("q", "unknown keyword 'q'"),
        ("max_tps", "unknown keyword 'max_tps': only the harmful direction has a limit, 'min_tps'"),
        (
            "min_ttft_p95_ms",
            (
                "unknown keyword 'min_ttft_p95_ms': only the harmful direction has a limit, "
                "'max_ttft_p95_ms'"
            ),
        ),
        ("our_min_tps", "unknown keyword 'our_min_tps', did you mean 'min_tps'?"),
    ],
)
def test_an_unknown_keyword_names_what_was_meant(keyword: str, message: str) -> None:
    with pytest.raises(BadLimit) as caught:
        read_limits({keyword: 20})
    assert str(caught.value) == message


@pytest.mark.parametrize("keyword", ["min_tps", "max_ttft_p95_ms", "max_ram_gb", "timeout_s"])
@pytest.mark.parametrize(
    ("value", "must"),
    [
        (True, "be a number, not True"),
        ("20", "be a number, not '20'"),
        (None, "be a number, not None"),
        ([20], r"be a number, not \[20\]"),
        (-1, "be greater than 0, not -1"),
        (0, "be greater than 0, not 0"),
        (math.nan, "be greater than 0, not nan"),
        (math.inf, "be greater than 0, not inf"),
    ],
)
def test_a_limit_is_a_positive_finite_number(keyword: str, value: object, must: str) -> None:
    with pytest.raises(BadLimit, match=f"^{keyword} must {must}$"):
        read_limits({keyword: value})


@pytest.mark.parametrize(
    ("keyword", "beyond", "most"),
    [("min_top1_agreement", 1.01, "1"), ("min_mbu", 1.2, "1.1")],
)
def test_a_ratio_has_an_upper_end(keyword: str, beyond: float, most: str) -> None:
    with pytest.raises(BadLimit, match=f"^{keyword} is a ratio of at most {most}, not {beyond}$"):
        read_limits({keyword: beyond})
    assert read_limits({keyword: float(most)}).budgets[0].limit == float(most)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "samples must lie between 5 and 1000, not 3"),
        (1001, "samples must lie between 5 and 1000, not 1001"),
        (4.5, "samples must be a whole number, not 4.5"),
        (True, "samples must be a whole number, not True"),
        ("10", "samples must be a whole number, not '10'"),
    ],
)
def test_bad_samples(value: object, message: str) -> None:
    with pytest.raises(BadLimit, match=f"^{message}$"):
        read_limits({"samples": value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", "max_regression must read like \"5%\" or 0.05, not '5'"),
        ("abc%", "max_regression must read like \"5%\" or 0.05, not 'abc%'"),
        ("", "max_regression must read like \"5%\" or 0.05, not ''"),
        (1.5, 'max_regression is a share such as "5%" or 0.05, not 1.5'),
        (5, 'max_regression is a share such as "5%" or 0.05, not 5'),
        ("150%", "max_regression is a share such as \"5%\" or 0.05, not '150%'"),
        (True, "max_regression must be a number, not True"),
        (-0.05, "max_regression must be greater than 0, not -0.05"),
        ("0%", "max_regression must be greater than 0, not 0.0"),
        ("nan%", "max_regression must be greater than 0, not nan"),
    ],
)
def test_bad_max_regression(value: object, message: str) -> None:
    with pytest.raises(BadLimit) as caught:
        read_limits({"max_regression": value})
    assert str(caught.value) == message


@pytest.mark.parametrize(("value", "share"), [("5%", 0.05), (" 7.5 % ", 0.075), (0.05, 0.05)])
def test_max_regression_is_a_share(value: object, share: float) -> None:
    assert read_limits({"max_regression": value}).max_regression == pytest.approx(share)


def test_everything_at_once_keeps_order_and_spelling() -> None:
    limits = read_limits(
        {"max_ttft_p95_ms": 800, "min_tps": 20.5, "samples": 5, "timeout_s": 90, "max_ram_gb": 6}
    )
    assert [budget.text for budget in limits.budgets] == [
        "max_ttft_p95_ms=800", "min_tps=20.5", "max_ram_gb=6",
    ]  # fmt: skip
    assert (limits.samples, limits.timeout_s, limits.max_regression) == (5, 90.0, None)


def test_no_keywords_limit_nothing() -> None:
    assert read_limits({}) == Limits()


@pytest.mark.parametrize(
    ("keyword", "below", "at", "above"),
    [("min_tps", True, False, False), ("max_ttft_ms", False, False, True)],
)
def test_a_limit_is_broken_on_its_harmful_side_only(
    keyword: str, below: bool, at: bool, above: bool
) -> None:
    budget = read_limits({keyword: 20}).budgets[0]
    assert [budget.broken_by(value) for value in (19.999, 20, 20.001)] == [below, at, above]
