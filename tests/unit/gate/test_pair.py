"""Which numbers are the same pair, and are they summarized as the judge takes them?"""

from __future__ import annotations

import datetime
import math
import statistics

import msgspec
import pytest

from pytest_llmperf.gate.baseline import Baseline, PairKey
from pytest_llmperf.gate.pair import (
    Earlier,
    PairResult,
    earlier_of,
    gated_metrics,
    key_of,
    seed_runs,
    split_nodeid,
    summarize,
)
from pytest_llmperf.gate.verdict import Judgement, Verdict
from pytest_llmperf.measure import Measurement, Workload
from tests.unit.gate.test_baseline import KEY, session
from tests.unit.gate.test_contract import measurement, quantity
from tests.unit.gate.test_recording import grown
from tests.unit.measure.test_roofline import PROBE


def seen(**metrics: list[float]) -> Measurement:
    found = {name: quantity(name, *values) for name, values in metrics.items()}
    return msgspec.structs.replace(measurement(), metrics=found)


def test_a_key_says_what_was_asked_for_and_no_version() -> None:
    asked = msgspec.structs.replace(
        measurement(decode_tps=1),
        version="0.3.36",
        workload=Workload(prompt_tokens=64, new_tokens=32, batch=2, depth=128),
        requested={"n_threads": "2"},
    )
    key = key_of("test_chat", asked, "decode_tps")
    assert "64+32 batch=2 depth=128 n_threads=2" in key.config
    assert "0.3.36" not in key.config
    newer = msgspec.structs.replace(asked, version="0.4.0")
    assert key_of("test_chat", newer, "decode_tps") == key


def test_a_node_id_is_a_module_and_a_test() -> None:
    assert split_nodeid("tests/test_a.py::TestB::test_c[x::y]") == (
        "tests/test_a.py", "TestB::test_c[x::y]",
    )  # fmt: skip


def test_speeds_and_exact_sizes_are_compared() -> None:
    found = seen(decode_tps=[1], prefill_tps=[1], ttft=[1], ram=[1], vram=[1])
    bound = msgspec.structs.replace(found.metrics["vram"], kind="bound")
    found = msgspec.structs.replace(found, metrics={**found.metrics, "vram": bound})
    assert gated_metrics(found) == ["decode_tps", "prefill_tps", "ram"]


def summary_of(found: Measurement, metric: str) -> tuple[float, float, int]:
    baseline = Baseline(key_of("test_chat", found, metric))
    summary = summarize(found, metric, baseline)
    return summary.log_value, summary.spread, summary.n


def test_a_summary_is_the_median_of_logs_and_their_quartiles() -> None:
    values = [10.0, 11.0, 12.0, 13.0, 14.0]
    logs = [math.log(value) for value in values]
    middle, spread, count = summary_of(seen(decode_tps=values), "decode_tps")
    assert middle == pytest.approx(statistics.median(logs))
    assert spread == pytest.approx((logs[3] - logs[1]) / 1.349)
    assert count == 5


def test_where_lower_is_better_the_sign_turns() -> None:
    assert summary_of(seen(ram=[2.0]), "ram")[0] == pytest.approx(-math.log(2))


def test_a_probes_blur_is_that_of_its_median() -> None:
    """Quartiles 37 and 39 of 38 GB/s in 20 repeats: (2/1.349)/38 · √(π/2)/√20."""
    found = msgspec.structs.replace(seen(decode_tps=[1.0] * 5), probe=PROBE)
    summary = summarize(found, "decode_tps", Baseline(key_of("test_chat", found, "decode_tps")))
    assert summary.log_probe == pytest.approx(math.log(38e9))
    expected = 2 / 1.349 / 38 * math.sqrt(math.pi / 2) / math.sqrt(20)
    assert summary.probe_cv == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("own", "runs"), [(0, 5), (4, 5), (5, 0)])
def test_a_seed_is_one_until_there_are_enough_other_sessions(own: int, runs: int) -> None:
    baseline = grown(5 + own)
    seeded = [msgspec.structs.replace(each, seeded=True) for each in baseline.sessions[:5]]
    sessions = (*seeded, *baseline.sessions[5:])
    assert seed_runs(msgspec.structs.replace(baseline, sessions=sessions)) == runs


def test_what_a_baseline_keeps_is_told_oldest_first() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    first = session(
        value=20.0, commit="0123456789abcdef", date=datetime.datetime(2026, 11, 1, 1, tzinfo=zone)
    )
    second = session(
        value=21.0, epoch=1, commit=None, date=datetime.datetime(2026, 11, 2, tzinfo=datetime.UTC)
    )
    assert earlier_of(Baseline(KEY, sessions=(first, second))) == [
        Earlier(date="2026-10-31T23:00", value=20.0, epoch=0, commit="0123456789ab"),
        Earlier(date="2026-11-02T00:00", value=21.0, epoch=1),
    ]


def judged_as(metric: str, change: float, **shares: float) -> PairResult:
    """``change`` of a value that was 100; ``shares``: the judge's, of which less is worse."""
    judgement = msgspec.structs.replace(Judgement(verdict=Verdict.REGRESSED), **shares)
    return PairResult(
        module="t.py", key=PairKey("test_chat", "1", metric, "fake"), fingerprint="here",
        is_gated=True, verdict=Verdict.REGRESSED, tolerance=0.03, judgement=judgement,
        normal=100.0, since="2026-11-02", value=100 * (1 + change), looks=[], conditions={},
        software={},
    )  # fmt: skip


@pytest.mark.parametrize("change", [0.20, -0.10])
def test_change_and_interval_of_a_time_are_both_of_the_time(change: float) -> None:
    low, high = change - 0.05, change + 0.06
    effect, worst, best = (1 / (1 + each) - 1 for each in (change, high, low))
    found = judged_as("ttft", change, effect=effect, low=worst, high=best, mde=1 - 1 / 1.08)
    assert found.change == pytest.approx(change)
    assert found.interval == pytest.approx((low, high))
    assert found.least_found == pytest.approx(0.08)


def test_the_interval_of_a_speed_is_the_judges() -> None:
    found = judged_as("decode_tps", -0.1, effect=-0.1, low=-0.14, high=-0.06, mde=0.05)
    assert found.interval == (-0.14, -0.06)
    assert found.least_found == -0.05


def test_of_what_was_not_compared_there_is_no_interval() -> None:
    found = judged_as("ram", 0.1, effect=-0.09)
    assert found.interval is None
    assert found.least_found is None


def test_an_interval_without_an_end_is_none() -> None:
    """Sessions so far apart that nothing of the speed may be left."""
    found = judged_as("ttft", 0.1, effect=-0.09, low=-1.0, high=0.5, mde=1.0)
    assert found.interval is None
    assert found.least_found is None
