"""Does each combination of facts lead to its verdict, and to no other?"""

from __future__ import annotations

import itertools

import msgspec
import pytest

from pytest_llmperf.backends import EngineFacts
from pytest_llmperf.gate.budget import read_limits
from pytest_llmperf.gate.contract import judge_contract, wants_confirmation
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict, worst
from pytest_llmperf.measure import Measurement, Quantity, Workload
from pytest_llmperf.measure.quantity import summarize
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.loading import LoadFacts


def quantity(metric: str, *values: float) -> Quantity:
    return summarize(values, BY_NAME[metric].unit)


def measurement(*, invalid: str | None = None, **medians: float) -> Measurement:
    """What was measured of ``synthetic:llama-160m``; one value for each metric named."""
    return Measurement(
        name="1",
        spec=ModelSpec("synthetic:llama-160m"),
        files=None,
        backend="fake",
        version="1",
        engine=EngineFacts(vocab_size=32000, context_tokens=4096, options={"n_ctx": 4096}),
        workload=Workload(prompt_tokens=512, new_tokens=128),
        invocation=0,
        warmup_samples=6,
        steady=True,
        metrics={metric: quantity(metric, value) for metric, value in medians.items()},
        absent={},
        load_facts=LoadFacts(
            load_s=2, import_s=0.5, cached_share=1.0, major_faults=0, disk_share=0.0
        ),
        memory=None,
        devices=[],
        conditions=None,
        gpu_conditions=[],
        roofline=None,
        clocks=[],
        findings=[],
        invalid=invalid,
    )


def with_tail(**percentiles: float) -> Measurement:
    """First tokens after 100 ms in the median, and these percentiles."""
    seen = measurement(ttft=100)
    tailed = msgspec.structs.replace(seen.ttft, percentiles=percentiles)
    return msgspec.structs.replace(seen, metrics={"ttft": tailed})


def test_the_worst_verdict_wins_in_this_order() -> None:
    order = [
        "PASSED", "IMPROVED", "NO_BASELINE", "INCONCLUSIVE", "REGRESSED", "OVER_BUDGET", "INVALID",
    ]  # fmt: skip
    assert list(Verdict) == order
    for better, worse in itertools.combinations(Verdict, 2):
        assert worst([worse, better]) is worst([better, worse]) is worse


def test_no_verdicts_have_no_worst() -> None:
    with pytest.raises(ValueError, match="empty"):
        worst([])


@pytest.mark.parametrize(
    ("verdict", "red", "red_if_strict"),
    [
        (Verdict.PASSED, False, False),
        (Verdict.IMPROVED, False, False),
        (Verdict.OVER_BUDGET, True, True),
        (Verdict.REGRESSED, True, True),
        (Verdict.INVALID, True, True),
        (Verdict.INCONCLUSIVE, False, True),
        (Verdict.NO_BASELINE, False, True),
    ],
)
def test_strictness(verdict: Verdict, red: bool, red_if_strict: bool) -> None:
    assert verdict.fails(strict=False) is red
    assert verdict.fails(strict=True) is red_if_strict


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ({"min_tps": 20}, Verdict.PASSED),
        ({"min_tps": 30}, Verdict.PASSED),
        ({"min_tps": 30.1}, Verdict.OVER_BUDGET),
        ({"min_decode_tps": 40}, Verdict.OVER_BUDGET),
        ({"max_ttft_ms": 100}, Verdict.PASSED),
        ({"max_ttft_ms": 99}, Verdict.OVER_BUDGET),
        ({"min_tps": 20, "max_ttft_ms": 99}, Verdict.OVER_BUDGET),
        ({"max_vram_gb": 6}, Verdict.INCONCLUSIVE),
        ({"min_tps": 20, "max_vram_gb": 6}, Verdict.INCONCLUSIVE),
        ({"min_tps": 40, "max_vram_gb": 6}, Verdict.OVER_BUDGET),
        ({}, None),
        ({"samples": 7}, None),
        ({"max_regression": "5%"}, None),
        ({"max_regression": "5%", "min_tps": 20}, Verdict.PASSED),
        ({"max_regression": "5%", "min_tps": 40}, Verdict.OVER_BUDGET),
    ],
)
def test_verdict_of_decode_30_and_first_token_100(
    limits: dict[str, object], verdict: Verdict | None
) -> None:
    assert (
        judge_contract(measurement(decode_tps=30, ttft=100), read_limits(limits)).verdict is verdict
    )


def test_a_percentile_budget_looks_at_the_percentile() -> None:
    limits = read_limits({"max_ttft_p95_ms": 200, "max_ttft_ms": 200})
    p95, median = judge_contract(with_tail(p95=250.0), limits).checks
    assert (p95.decided, p95.verdict) == (250, Verdict.OVER_BUDGET)
    assert (median.decided, median.verdict) == (100, Verdict.PASSED)


def test_all_budgets_are_checked_not_just_the_first_broken() -> None:
    limits = read_limits({"min_tps": 40, "max_ttft_ms": 50, "max_load_s": 9})
    checks = judge_contract(measurement(decode_tps=30, ttft=100, load=1), limits).checks
    assert [check.verdict for check in checks] == ["OVER_BUDGET", "OVER_BUDGET", "PASSED"]


def test_an_unmeasured_metric_is_inconclusive_and_says_so() -> None:
    judgement = judge_contract(
        measurement(decode_tps=30), read_limits({"max_vram_gb": 6, "min_tps": 20})
    )
    assert judgement.reasons == ("max_vram_gb=6: vram was not measured by fake on this machine",)
    assert [check.measured for check in judgement.checks] == [None, 30]


def test_an_invalid_measurement_is_invalid_whatever_its_budgets() -> None:
    judgement = judge_contract(measurement(invalid="too few tokens"), read_limits({"min_tps": 1}))
    assert (judgement.verdict, judgement.checks) == (Verdict.INVALID, ())
    assert judgement.reasons == ("too few tokens",)


@pytest.mark.parametrize(
    ("keyword", "value", "asks"),
    [
        ("min_tps", 17.9, False),
        ("min_tps", 18, True),
        ("min_tps", 20, True),
        ("min_tps", 22, True),
        ("min_tps", 22.1, False),
        ("max_ttft_ms", 17.9, False),
        ("max_ttft_ms", 18, True),
        ("max_ttft_ms", 22, True),
        ("max_ttft_ms", 22.1, False),
    ],
)
def test_within_a_tenth_of_the_limit_20_a_second_process_is_asked(
    keyword: str, value: float, asks: bool
) -> None:
    seen = measurement(decode_tps=value, ttft=value)
    assert wants_confirmation(seen, read_limits({keyword: 20})) is asks


def test_one_near_value_among_several_is_enough() -> None:
    seen = measurement(decode_tps=30, ttft=100)
    assert wants_confirmation(seen, read_limits({"max_ttft_ms": 800, "min_tps": 31}))


def test_a_near_percentile_asks_too() -> None:
    assert wants_confirmation(with_tail(p95=210.0), read_limits({"max_ttft_p95_ms": 200}))
    assert not wants_confirmation(with_tail(p95=300.0), read_limits({"max_ttft_p95_ms": 200}))


@pytest.mark.parametrize(
    ("seen", "limits"),
    [
        (measurement(invalid="too few tokens"), {"min_tps": 20}),
        (measurement(ttft=20), {"min_tps": 20}),
        (measurement(decode_tps=20), {}),
    ],
    ids=["invalid", "not measured", "no budget"],
)
def test_what_a_second_process_cannot_settle_asks_for_none(
    seen: Measurement, limits: dict[str, object]
) -> None:
    assert not wants_confirmation(seen, read_limits(limits))


@pytest.mark.parametrize(
    ("first", "second", "decided", "verdict"),
    [
        (19, 22, 20.5, Verdict.PASSED),
        (21, 18, 19.5, Verdict.OVER_BUDGET),
        (19, 21, 20, Verdict.PASSED),
        (19, 20, 19.5, Verdict.OVER_BUDGET),
    ],
)
def test_the_median_of_both_processes_decides(
    first: float, second: float, decided: float, verdict: Verdict
) -> None:
    limits = read_limits({"min_tps": 20})
    judgement = judge_contract(
        measurement(decode_tps=first), limits, measurement(decode_tps=second)
    )
    (check,) = judgement.checks
    assert (check.measured, check.confirmed, check.decided) == (first, second, decided)
    assert judgement.verdict is check.verdict is verdict


def test_without_confirmation_the_first_value_decides() -> None:
    (check,) = judge_contract(measurement(decode_tps=19), read_limits({"min_tps": 20})).checks
    assert (check.confirmed, check.decided, check.verdict) == (None, 19, Verdict.OVER_BUDGET)


def test_an_invalid_confirmation_is_invalid() -> None:
    limits = read_limits({"min_tps": 20})
    judgement = judge_contract(
        measurement(decode_tps=21), limits, measurement(invalid="clock ran back")
    )
    assert (judgement.verdict, judgement.reasons) == (Verdict.INVALID, ("clock ran back",))


# -- bounds: the truth lies between two figures ------------------------------------------------


def bound(low: float | None, high: float, kind: str = "bound") -> Measurement:
    """RAM of a tree of processes, in GiB."""
    seen = measurement(ram=high)
    figure = msgspec.structs.replace(seen.ram, kind=kind, how="two processes", at_least=low)
    return msgspec.structs.replace(seen, metrics={"ram": figure})


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (2.0, 3.0, Verdict.PASSED),
        (3.0, 5.0, Verdict.INCONCLUSIVE),
        (5.0, 6.0, Verdict.OVER_BUDGET),
        (None, 6.0, Verdict.INCONCLUSIVE),
        (None, 3.0, Verdict.PASSED),
    ],
)
def test_a_bound_breaks_a_budget_only_if_all_of_it_does(
    low: float | None, high: float, verdict: Verdict
) -> None:
    assert judge_contract(bound(low, high), read_limits({"max_ram_gb": 4})).verdict is verdict


def test_a_sampled_figure_breaks_no_budget_that_its_low_end_keeps() -> None:
    """A card's difference of 7.5 GiB on which 4 may be a neighbour's."""
    limits = read_limits({"max_ram_gb": 6})
    assert judge_contract(bound(3.0, 7.5, "sampled"), limits).verdict is Verdict.INCONCLUSIVE
    assert judge_contract(bound(0.0, 7.5, "sampled"), limits).verdict is Verdict.INCONCLUSIVE
    assert judge_contract(bound(None, 7.5, "sampled"), limits).verdict is Verdict.OVER_BUDGET


def test_an_undecided_bound_says_between_what_the_truth_lies() -> None:
    judgement = judge_contract(bound(3.0, 5.0), read_limits({"max_ram_gb": 4}))
    assert judgement.reasons == (
        (
            "max_ram_gb=4: the truth lies between 3 and 5 GiB, and the limit between them "
            "(two processes)"
        ),
    )


def test_what_is_known_of_an_absent_metric_is_said() -> None:
    seen = msgspec.structs.replace(measurement(), absent={"mbu": "the weights live in the cache"})
    (reason,) = judge_contract(seen, read_limits({"min_mbu": 0.3})).reasons
    assert reason.endswith("on this machine: the weights live in the cache")


@pytest.mark.parametrize(
    ("high", "near"), [(5.0, True), (10.0, True), (20.0, False)], ids=["high", "low end", "far"]
)
def test_a_bound_is_near_when_one_of_its_ends_is(high: float, near: bool) -> None:
    assert wants_confirmation(bound(high - 4.9, high), read_limits({"max_ram_gb": 5})) is near


def test_the_doubt_of_both_processes_counts() -> None:
    """5.3 for certain, then 4.6 to 5.5: the truth may lie below 5.4 by 0.45."""
    first, second = measurement(ram=5.3), bound(4.6, 5.5)
    limits = read_limits({"max_ram_gb": 5})
    assert judge_contract(first, limits).verdict is Verdict.OVER_BUDGET
    assert judge_contract(first, limits, second).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("over", "verdict"), [(0.1, Verdict.INCONCLUSIVE), (0.2, Verdict.OVER_BUDGET)]
)
def test_what_the_kernel_may_hide_is_no_broken_budget(over: float, verdict: Verdict) -> None:
    seen = measurement(ram=5 + over)
    figure = msgspec.structs.replace(seen.ram, slack=0.125)
    seen = msgspec.structs.replace(seen, metrics={"ram": figure})
    assert judge_contract(seen, read_limits({"max_ram_gb": 5})).verdict is verdict


@pytest.mark.parametrize(
    ("cached", "verdict"), [(0.0, Verdict.PASSED), (1.0, Verdict.OVER_BUDGET)], ids=["cold", "warm"]
)
def test_a_warm_load_does_not_confirm_a_cold_one(cached: float, verdict: Verdict) -> None:
    """The first load was cold and took 10 s; with a like one of 0.5 s the median is below 9.5."""
    first, second = measurement(load=10), measurement(load=0.5)
    cold = msgspec.structs.replace(first.load_facts, cached_share=0.0)
    again = msgspec.structs.replace(first.load_facts, cached_share=cached)
    first = msgspec.structs.replace(first, load_facts=cold)
    second = msgspec.structs.replace(second, load_facts=again)
    assert judge_contract(first, read_limits({"max_load_s": 9.5}), second).verdict is verdict
