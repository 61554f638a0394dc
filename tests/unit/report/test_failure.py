"""Is a red test's text short, complete and exactly this?"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.gate import Cause, Judgement, Verdict
from pytest_llmperf.gate.baseline import PairKey
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.summary import InvocationSummary
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report.failure import failure_text
from pytest_llmperf.report.result import JudgedMeasurement
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


def test_even_many_facts_fit_into_thirteen_lines_of_a_terminal(machine: Hardware) -> None:
    seen = msgspec.structs.replace(
        ten_samples(), name="long", steady=False, findings=["not steady", "too large"]
    )
    limits = {"min_tps": 19.5, "max_ttft_ms": 190, "max_ttft_p95_ms": 700, "max_load_s": 3.9}
    judged = [judge_it(seen, seen, **limits), judge_it(seen, min_tps=10)]
    text = failure_text(judged, machine, strict=False)
    assert text.count("perf budget broken") == 4
    assert len(text.splitlines()) <= 13
    assert max(len(line) for line in text.splitlines() if line.startswith(" ")) <= 80


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


def look(value: float, *, disturbed: bool = False) -> InvocationSummary:
    guard = ("throttled",) if disturbed else ()
    return InvocationSummary(log_value=math.log(value), spread=0.004, n=10, guard=guard)


def pair(metric: str, *looks: InvocationSummary, normal: float, **changes: object) -> PairResult:
    """One that got slower, and in fresh processes."""
    judgement = Judgement(
        verdict=Verdict.REGRESSED, effect=-0.06, low=-0.0904, high=-0.0312, mde=0.052, sessions=9
    )
    result = PairResult(
        module="t.py",
        key=PairKey("test_chat", "1", metric, "fake"),
        fingerprint="here",
        is_gated=True,
        verdict=judgement.verdict,
        tolerance=0.03,
        judgement=judgement,
        normal=normal,
        since="2026-11-02",
        value=math.exp(looks[-1].log_value),
        looks=list(looks),
        conditions={},
        software={},
    )
    return msgspec.structs.replace(result, **changes)


def slower(*pairs: PairResult, **limits: object) -> JudgedMeasurement:
    metrics = {
        "decode_tps": quantity("decode_tps", 183, 183, 184, 185, 185),
        "prefill_tps": quantity("prefill_tps", 1230, 1230, 1240, 1250, 1250),
        "ram": quantity("ram", 1.4),
    }
    seen = msgspec.structs.replace(measurement(), metrics=metrics)
    return msgspec.structs.replace(
        judge_it(seen, **limits), verdict=Verdict.REGRESSED, pairs=list(pairs)
    )


DECODE = pair("decode_tps", *map(look, (184, 184, 185, 185, 186, 184)), normal=196)
PREFILL = pair("prefill_tps", *map(look, (1240, 1241, 1242, 1243, 1244, 1245)), normal=1320)


def test_a_regression_shows_what_was_measured_how_sure_that_is_and_how_to_accept(
    machine: Hardware,
) -> None:
    assert failure_text([slower(DECODE)], machine, strict=False) == (
        "perf regressed: decode 184 tok/s is 6.1 % below its baseline, 3 % is tolerated\n"
        "  measured   184 tok/s (median of 5, 183–185), 512+128 tokens\n"
        "  engine     fake 1, llama-160m\n"
        f"  machine    {MACHINE}\n"
        "  state      steady\n"
        "  confirmed  in 5 fresh processes: 184, 185, 185, 186, 184\n"
        "  baseline   196 tok/s (2026-11-02, 9 sessions) → −6.1 %, REGRESSED\n"
        "  certainty  −9.0 % to −3.1 %; losses of 5.2 % are found four times in five\n"
        "  if wanted  --llmperf-accept=WHY makes it the new normal"
    )


def longer() -> PairResult:
    """A first token after 120 instead of 100 ms: 20 % more, 15 to 26 % for certain."""
    looks = [
        InvocationSummary(log_value=-math.log(each), spread=0.004, n=10) for each in (119, 120, 121)
    ]
    judgement = Judgement(
        verdict=Verdict.REGRESSED,
        effect=1 / 1.20 - 1,
        low=1 / 1.26 - 1,
        high=1 / 1.15 - 1,
        mde=1 - 1 / 1.08,
        sessions=9,
    )
    return pair("ttft", *looks, normal=100.0, value=120.0, judgement=judgement)


def test_a_time_that_got_longer_is_told_with_one_sign(machine: Hardware) -> None:
    metrics = {"ttft": quantity("ttft", 118, 118, 119, 120, 120)}
    seen = msgspec.structs.replace(measurement(), metrics=metrics)
    judged = msgspec.structs.replace(
        judge_it(seen), verdict=Verdict.REGRESSED, pairs=[longer()], reasons=[]
    )
    lines = failure_text([judged], machine, strict=False).splitlines()
    assert lines[0] == (
        "perf regressed: first token 120 ms is 20 % above its baseline, 3 % is tolerated"
    )
    assert lines[-4:] == [
        "  confirmed  in 2 fresh processes: 120, 121",
        "  baseline   100 ms (2026-11-02, 9 sessions) → +20 %, REGRESSED",
        "  certainty  +15 % to +26 %; losses of 8 % are found four times in five",
        "  if wanted  --llmperf-accept=WHY makes it the new normal",
    ]


def test_of_two_regressions_each_row_is_named_and_fits_the_terminal(machine: Hardware) -> None:
    lines = failure_text([slower(DECODE, PREFILL)], machine, strict=False).splitlines()
    assert max(map(len, lines)) <= 80
    assert "  measured   decode 184 tok/s (median of 5, 183–185), 512+128 tokens" in lines
    assert "  measured   prefill 1240 tok/s (median of 5, 1230–1250), 512+128 tokens" in lines
    assert "  confirmed  in 5 fresh processes: prefill 1241, 1242, 1243, 1244, 1245" in lines
    assert sum("if wanted" in line for line in lines) == 1


def test_a_broken_budget_does_not_hide_a_regression_of_another_metric(machine: Hardware) -> None:
    text = failure_text([slower(DECODE, max_ram_gb=1)], machine, strict=False)
    assert "\n  measured   1.40 GiB (one value), 512+128 tokens\n" in text
    assert "\n  measured   decode 184 tok/s (median of 5, 183–185), 512+128 tokens\n" in text


def test_only_fresh_processes_that_were_heard_confirm(machine: Hardware) -> None:
    heard = pair("decode_tps", look(184), look(150, disturbed=True), look(185), normal=196)
    text = failure_text([slower(heard)], machine, strict=False)
    assert "\n  confirmed  in a fresh process: 185\n" in text


def test_memory_is_confirmed_though_it_is_one_value(machine: Hardware) -> None:
    sizes = [
        InvocationSummary(log_value=-math.log(value), spread=0.0, n=1) for value in (1.4, 1.41)
    ]
    text = failure_text([slower(pair("ram", *sizes, normal=1.0))], machine, strict=False)
    assert "\n  confirmed  in a fresh process: 1.41\n" in text


@pytest.mark.parametrize(
    ("runs", "sessions", "said"),
    [
        (0, 1, "1 session"),
        (5, 3, "a seed of 5 runs"),
        (5, 5, "a seed of 5 runs and 2 sessions"),
    ],
)
def test_a_seed_is_not_called_sessions(
    machine: Hardware, runs: int, sessions: int, said: str
) -> None:
    judgement = msgspec.structs.replace(DECODE.judgement, sessions=sessions)
    seeded = msgspec.structs.replace(DECODE, judgement=judgement, seed_runs=runs)
    text = failure_text([slower(seeded)], machine, strict=False)
    assert f"196 tok/s (2026-11-02, {said}) → −6.1 %" in text


def test_what_is_undecided_is_not_offered_as_a_new_normal(machine: Hardware) -> None:
    judgement = msgspec.structs.replace(
        DECODE.judgement, verdict=Verdict.INCONCLUSIVE, cause=Cause.UNSURE, reasons=("unsure",)
    )
    unsure = msgspec.structs.replace(DECODE, verdict=Verdict.INCONCLUSIVE, judgement=judgement)
    judged = msgspec.structs.replace(slower(unsure), verdict=Verdict.INCONCLUSIVE)
    assert "--llmperf-accept" not in failure_text([judged], machine, strict=True)
