"""Do the samples become the metrics that their definitions state?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.measure import (
    ByteFigure,
    MemoryUse,
)
from pytest_llmperf.measure.observer import Observed
from pytest_llmperf.measure.quantity import Quantity
from pytest_llmperf.measure.summary import summarize_metrics as summarize
from pytest_llmperf.measure.timeline import Sample
from tests.unit.measure.test_invocation import LOAD, took


def summarize_metrics(
    samples: list[Sample], memory: MemoryUse | None = None
) -> dict[str, Quantity]:
    return summarize(samples, LOAD, Observed(memory=memory), None)[0]


def test_metrics_of_two_samples_worked_out_by_hand() -> None:
    metrics = summarize_metrics([took(1.0), took(2.0)])
    medians = {name: quantity.median for name, quantity in metrics.items()}
    assert medians == pytest.approx(
        {
            "load": 2.0,
            "ttft": 750.0,
            "prefill_tps": 150.0,
            "e2e": 1500.0,
            "decode_tps": 3.0,
            "tpot": 375.0,
            "itl": 375.0,
        }
    )


def test_token_gaps_are_pooled_over_samples() -> None:
    uneven = msgspec.structs.replace(took(1.0), gaps_s=[0.1, 0.4])
    itl = summarize_metrics([uneven, took(2.0)])["itl"]
    assert (itl.n, itl.values) == (4, None)
    assert (itl.median, itl.percentiles["p99"]) == pytest.approx((450, 500))


def test_speeds_are_the_median_over_samples_never_a_mean() -> None:
    metrics = summarize_metrics([took(1), took(1), took(100)])
    assert metrics["decode_tps"].median == 4
    assert metrics["decode_tps"].values == [4, 4, 0.04]


def test_single_tokens_have_no_decode_metrics() -> None:
    one = Sample(prompt_tokens=100, new_tokens=1, ttft_s=1, e2e_s=1, whole_s=1, gaps_s=[])
    assert set(summarize_metrics([one])) == {"load", "ttft", "prefill_tps", "e2e"}


def test_memory_is_told_in_gib_with_how_it_was_taken() -> None:
    peak = ByteFigure(bytes=3 << 29, kind="bound", how="VmHWM", low_bytes=1 << 30)
    used = MemoryUse(
        peak=peak, load=None, prefill=None, decode=None, anon=None, file=None, pss=None,
        processes=2, unknown={},
    )  # fmt: skip
    ram = summarize_metrics([], used)["ram"]
    assert (ram.median, ram.unit, ram.kind, ram.how) == (1.5, "GiB", "bound", "VmHWM")
    assert (ram.at_least, ram.least) == (1.0, 1.0)


def test_a_load_says_whether_it_was_warm() -> None:
    assert summarize_metrics([])["load"].how == "warm: 100% of the weights in the page cache"


def test_chunks_have_a_metric_of_their_own() -> None:
    chunked = msgspec.structs.replace(took(1.0), chunk_gaps_s=[0.5])
    assert summarize_metrics([chunked, took(1.0)])["icl"].median == 500
    assert "icl" not in summarize_metrics([took(1.0)])


def test_what_a_draft_brings_is_told_in_tokens_of_a_chunk() -> None:
    drafted = msgspec.structs.replace(took(1.0), gaps_s=[0.1] * 6, chunk_gaps_s=[0.2, 0.4])
    assert summarize_metrics([drafted])["chunk_tokens"].median == 3
    at_once = msgspec.structs.replace(took(1.0), gaps_s=[], chunk_gaps_s=[])
    assert "chunk_tokens" not in summarize_metrics([at_once])
    assert "chunk_tokens" not in summarize_metrics([took(1.0)])


# -- the whole measurement -------------------------------------------------------------------
