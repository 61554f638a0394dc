"""Is a red test's text short, complete and exactly this?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report.failure import failure_text
from tests.unit.gate.test_contract import measurement, quantity
from tests.unit.measure.test_bottleneck import QUIET
from tests.unit.report.test_result import judge_it, laptop

MACHINE = "16 cores 12th Gen Intel(R) Core(TM) i7-1260P (avx_vnni), 15 GB RAM"


@pytest.fixture
def machine(tmp_path: Path) -> Hardware:
    return laptop(tmp_path)


def ten_samples() -> Measurement:
    """Decode at 19 in the median of five, first tokens after 200 ms, loaded in 4 s."""
    metrics = {
        "decode_tps": quantity("decode_tps", 18, 18.5, 19, 19.5, 20),
        "ttft": quantity("ttft", 100, 150, 200, 300, 900),
        "load": quantity("load", 4),
    }
    return msgspec.structs.replace(measurement(), metrics=metrics)


def test_one_budget(machine: Hardware) -> None:
    text = failure_text([judge_it(ten_samples(), min_tps=25)], machine, strict=False)
    assert text == (
        "perf budget broken: decode 19.0 tok/s < min_tps=25\n"
        "  measured   19.0 tok/s (median of 5, 18.5–19.5), 512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      steady"
    )


def test_three_budgets_of_which_two_are_broken(machine: Hardware) -> None:
    judged = judge_it(ten_samples(), max_load_s=9, max_ttft_ms=150, min_tps=25)
    assert failure_text([judged], machine, strict=False) == (
        "perf budget broken: first token 200 ms > max_ttft_ms=150\n"
        "perf budget broken: decode 19.0 tok/s < min_tps=25\n"
        "  measured   200 ms (median of 5, 150–300), 512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      steady"
    )


def test_a_confirmed_budget_shows_both_processes(machine: Hardware) -> None:
    judged = judge_it(ten_samples(), measurement(decode_tps=19.4), min_tps=20)
    assert failure_text([judged], machine, strict=False) == (
        "perf budget broken: decode 19.2 tok/s (median of two processes) < min_tps=20\n"
        "  measured   19.0 tok/s (median of 5, 18.5–19.5), 512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      steady\n"
        "  confirmed  in a fresh process: decode 19.4 tok/s"
    )


def test_a_percentile_is_not_called_a_median(machine: Hardware) -> None:
    judged = judge_it(ten_samples(), max_ttft_p95_ms=500)
    assert failure_text([judged], machine, strict=False) == (
        "perf budget broken: first token p95 780 ms > max_ttft_p95_ms=500\n"
        "  measured   780 ms (p95 of 5), 512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      steady"
    )


def test_invalid(machine: Hardware) -> None:
    seen = msgspec.structs.replace(
        measurement(invalid="127 tokens generated, 128 asked for"), steady=False
    )
    assert failure_text([judge_it(seen, min_tps=20)], machine, strict=False) == (
        "measurement invalid: 127 tokens generated, 128 asked for\n"
        "  measured   512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      not steady"
    )


def test_without_baseline_under_strict(machine: Hardware) -> None:
    assert failure_text([judge_it(ten_samples())], machine, strict=True) == (
        "red under --llmperf-strict: no budget and no baseline: measured, not judged\n"
        "  measured   512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      steady"
    )


def test_inconclusive_under_strict_names_what_was_not_measured(machine: Hardware) -> None:
    text = failure_text([judge_it(ten_samples(), max_vram_gb=6)], machine, strict=True)
    assert text.splitlines()[0] == (
        "red under --llmperf-strict: max_vram_gb=6: vram was not measured by fake on this machine"
    )


def test_findings_are_notes(machine: Hardware) -> None:
    seen = msgspec.structs.replace(
        ten_samples(), steady=False, findings=["not steady after 9 warm-up samples"]
    )
    text = failure_text([judge_it(seen, min_tps=25)], machine, strict=False)
    assert text.splitlines()[-3:] == [
        f"  machine    {MACHINE}",
        "  state      not steady",
        "  note       not steady after 9 warm-up samples",
    ]


def test_of_several_measures_the_red_ones_are_named(machine: Hardware) -> None:
    named = [
        msgspec.structs.replace(ten_samples(), name=name) for name in ("short", "long", "batch")
    ]
    judged = [
        judge_it(named[0], min_tps=25),
        judge_it(named[1], min_tps=10),
        judge_it(named[2], max_load_s=1),
    ]
    assert failure_text(judged, machine, strict=False) == (
        "perf budget broken: decode 19.0 tok/s < min_tps=25\n"
        "  measure    short\n"
        "  measured   19.0 tok/s (median of 5, 18.5–19.5), 512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      steady\n"
        "perf budget broken: load 4.00 s > max_load_s=1\n"
        "  measure    batch\n"
        "  measured   4.00 s (one value), 512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      steady"
    )


def test_nothing_red_has_no_text(machine: Hardware) -> None:
    judged = [judge_it(ten_samples(), min_tps=10), judge_it(ten_samples())]
    assert failure_text(judged, machine, strict=False) == ""


def test_even_many_facts_fit_into_twelve_lines(machine: Hardware) -> None:
    seen = msgspec.structs.replace(
        ten_samples(), name="long", steady=False, findings=["not steady", "too large"]
    )
    limits = {"min_tps": 19.5, "max_ttft_ms": 190, "max_ttft_p95_ms": 700, "max_load_s": 3.9}
    judged = [judge_it(seen, seen, **limits), judge_it(seen, min_tps=10)]
    text = failure_text(judged, machine, strict=False)
    assert text.count("perf budget broken") == 4
    assert len(text.splitlines()) <= 12


def test_a_broken_share_of_the_roofline_shows_its_arithmetic(machine: Hardware) -> None:
    how = "1.17 GB a step × 18.3 steps/s = 21.4 GB/s, of 26.1 GB/s measured"
    share = msgspec.structs.replace(quantity("mbu", 0.82), how=how)
    seen = msgspec.structs.replace(measurement(), metrics={"mbu": share})
    assert failure_text([judge_it(seen, min_mbu=0.99)], machine, strict=False) == (
        "perf budget broken: memory bandwidth used 0.82 < min_mbu=0.99\n"
        "  measured   0.82 (one value), 512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  mbu        {how}\n"
        f"  machine    {MACHINE}\n"
        "  state      82 % of memory bandwidth · steady"
    )


@pytest.mark.parametrize(("share", "said"), [(0.0, "not throttled"), (0.12, "throttled 12%")])
def test_heat_is_said_where_it_is_known(machine: Hardware, share: float, said: str) -> None:
    conditions = msgspec.structs.replace(QUIET, thermal_share=share)
    seen = msgspec.structs.replace(ten_samples(), conditions=conditions)
    text = failure_text([judge_it(seen, min_tps=25)], machine, strict=False)
    assert text.splitlines()[-1] == f"  state      {said} · steady"


def test_a_broken_memory_budget_says_what_its_figure_is_worth(machine: Hardware) -> None:
    ram = msgspec.structs.replace(
        quantity("ram", 6), kind="exact", how="VmHWM, reset after the load", slack=2**-12
    )
    seen = msgspec.structs.replace(measurement(), metrics={"ram": ram})
    text = failure_text([judge_it(seen, max_ram_gb=4)], machine, strict=False)
    assert "\n  ram        exact ± 256 KiB: VmHWM, reset after the load\n" in text
