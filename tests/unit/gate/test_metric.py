"""Do the metric table and what measure/ produces speak of the same things?"""

from __future__ import annotations

import pytest

from pytest_llmperf.gate.metric import BY_NAME, METRICS, TAIL_PERCENTILES, limit_keywords
from pytest_llmperf.measure import ByteFigure, MemoryUse
from pytest_llmperf.measure.observer import Observed
from pytest_llmperf.measure.quantity import PERCENTILES
from pytest_llmperf.measure.summary import summarize_metrics
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.worker.loading import LoadFacts

SAMPLE = Sample(
    prompt_tokens=8,
    new_tokens=3,
    ttft_s=0.1,
    e2e_s=0.3,
    whole_s=0.3,
    gaps_s=[0.1, 0.1],
    chunk_gaps_s=[0.2],
)
LOAD = LoadFacts(load_s=1, import_s=0, cached_share=1.0, major_faults=0, disk_share=0.0)


def test_measured_metrics_have_the_units_of_the_table() -> None:
    figure = ByteFigure(bytes=3 << 30, kind="exact", how="VmHWM")
    used = MemoryUse(
        peak=figure, load=figure, prefill=None, decode=None, anon=figure, file=None, pss=None,
        processes=1, unknown={},
    )  # fmt: skip
    metrics, absent = summarize_metrics([SAMPLE], LOAD, Observed(memory=used), None)
    measured = {name: quantity.unit for name, quantity in metrics.items()}
    assert measured == {name: BY_NAME[name].unit for name in measured}
    assert set(measured) == {
        "load", "ram", "ram_anon", "ttft", "prefill_tps", "e2e", "decode_tps", "tpot", "itl", "icl",
        "chunk_tokens",
    }  # fmt: skip
    assert absent == {}


def test_percentiles_that_may_carry_a_budget_are_measured() -> None:
    assert set(TAIL_PERCENTILES) <= set(PERCENTILES)


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(METRICS)


@pytest.mark.parametrize(
    ("keyword", "metric", "percentile"),
    [
        ("min_tps", "decode_tps", None),
        ("min_decode_tps", "decode_tps", None),
        ("min_prefill_tps", "prefill_tps", None),
        ("max_ttft_ms", "ttft", None),
        ("max_ttft_p95_ms", "ttft", 95),
        ("max_itl_p99_ms", "itl", 99),
        ("max_load_s", "load", None),
        ("max_ram_gb", "ram", None),
        ("max_ram_anon_gb", "ram_anon", None),
        ("max_vram_gb", "vram", None),
        ("max_vram_allocated_gb", "vram_allocated", None),
        ("min_mbu", "mbu", None),
        ("max_kl_divergence", "kl_divergence", None),
        ("min_top1_agreement", "top1_agreement", None),
    ],
)
def test_keywords_of_the_interface(keyword: str, metric: str, percentile: int | None) -> None:
    found = limit_keywords()[keyword]
    assert (found.metric.name, found.percentile) == (metric, percentile)


@pytest.mark.parametrize("name", ["ttft", "itl", "tpot", "e2e"])
def test_times_take_every_tail_percentile(name: str) -> None:
    keywords = {f"max_{name}_p{percent}_ms" for percent in (50, 90, 95, 99)}
    assert keywords <= set(limit_keywords())


@pytest.mark.parametrize("keyword", ["min_tps_p95", "max_load_p95_s", "max_ram_p99_gb"])
def test_other_metrics_have_no_tails(keyword: str) -> None:
    assert keyword not in limit_keywords()


def test_only_the_harmful_direction_has_keywords() -> None:
    for keyword, found in limit_keywords().items():
        assert keyword.startswith("min_" if found.metric.better == "higher" else "max_")
