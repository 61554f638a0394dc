"""Where does a measurement lie below the machine's limits? All numbers are made up and round."""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.backends import EngineFacts
from pytest_llmperf.hardware.calibration import Calibration
from pytest_llmperf.measure.roofline import Roofline, place
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.models.step import Attention, Traffic

MIB = 2**20
MODEL = Traffic(
    dense_bytes=1_000_000_000,
    attention=(Attention(layers=10, kv_values=1000, query_values=1000),),
    layer_parameters=900_000_000,
    head_parameters=100_000_000,
    bits_per_weight=8.0,
    tied=False,
)
ENGINE = EngineFacts(vocab_size=100, context_tokens=4096, options={}, kv_element_bytes=2.0)
WORKLOAD = Workload(prompt_tokens=100, new_tokens=21)
PROBE = Calibration(
    device="cpu",
    bandwidth_best=40e9,
    bandwidth_median=38e9,
    bandwidth_low=37e9,
    bandwidth_high=39e9,
    repeats=20,
    working_set_bytes=256 * MIB,
    last_level_cache_bytes=32 * MIB,
    threads=2,
    flops_best=400e9,
    flops_dtype="float32",
    how="reading",
    wall_s=1.0,
)


def sample(steps_per_s: float, *, ttft_s: float = 1.0, batch: int = 1) -> Sample:
    gap = 1 / steps_per_s
    return Sample(
        prompt_tokens=100,
        new_tokens=21,
        batch=batch,
        ttft_s=ttft_s,
        e2e_s=ttft_s + 20 * gap,
        whole_s=ttft_s + 20 * gap,
        gaps_s=[gap] * 20,
    )


def placed(
    *samples: Sample,
    model: Traffic | str = MODEL,
    engine: EngineFacts = ENGINE,
    workload: Workload = WORKLOAD,
    probes: tuple[Calibration, ...] = (PROBE,),
) -> Roofline:
    return place(model, engine, workload, samples, probes, uncalibrated="it was switched off")


def probe(best: float) -> Calibration:
    return msgspec.structs.replace(PROBE, bandwidth_best=best)


def test_mbu_is_bytes_times_steps_over_the_best_bandwidth() -> None:
    found = placed(sample(19), sample(20), sample(30))
    # 110.5 tokens are in the cache at the middle of the decode.
    assert found.step_bytes == 1_000_000_000 + 10 * 1000 * 110.5 * 2
    assert found.steps_per_s == pytest.approx(20)
    assert found.bytes_per_s == pytest.approx(20 * 1_002_210_000)
    assert found.mbu == pytest.approx(20 * 1.00221 / 40)
    assert found.arithmetic == "1 GB a step × 20.0 steps/s = 20 GB/s, of 40 GB/s measured"
    assert (found.findings, found.absent, found.invalid) == ((), {}, None)


def test_a_step_serves_the_whole_batch() -> None:
    workload = msgspec.structs.replace(WORKLOAD, batch=4)
    found = placed(sample(20, batch=4), workload=workload)
    assert found.step_bytes == 1_000_000_000 + 4 * 10 * 1000 * 110.5 * 2
    assert found.bytes_per_s == pytest.approx(20 * found.step_bytes)


def test_the_engine_knows_better_what_lies_in_memory() -> None:
    """Twice as many bytes for each weight as in the file."""
    bits = MODEL.bits_per_weight
    engine = msgspec.structs.replace(
        ENGINE, weight_element_bytes=2 * bits / 8, kv_element_bytes=4.0
    )
    expected = 2 * MODEL.dense_bytes + 10 * 1000 * 110.5 * 4
    assert placed(sample(5), engine=engine).step_bytes == expected


def test_tokens_that_arrive_together_are_no_steps() -> None:
    """Drafted tokens would make a decode look faster than the memory, and INVALID."""
    drafted = msgspec.structs.replace(sample(200), chunk_gaps_s=[0.1])
    found = placed(drafted)
    assert found.invalid is None
    assert "several tokens arrived at once" in found.absent["mbu"]


@pytest.mark.parametrize("doubt", ["cache", "experts"])
def test_a_doubt_about_the_bytes_accuses_nobody(doubt: str) -> None:
    """The same speed is a mistake where the bytes are certain."""
    assert placed(sample(200)).invalid is not None
    if doubt == "cache":
        found = placed(
            sample(200), probes=(msgspec.structs.replace(PROBE, last_level_cache_bytes=None),)
        )
    else:
        routed = msgspec.structs.replace(
            MODEL, expert_bytes=MODEL.dense_bytes, experts=64, experts_used=4
        )
        workload = msgspec.structs.replace(WORKLOAD, batch=8)
        found = placed(sample(200, batch=8), model=routed, workload=workload)
    assert found.mbu is not None
    assert found.mbu > 1.1
    assert found.invalid is None
    assert any("too high" in finding for finding in found.findings)


def test_mfu_is_operations_over_the_time_to_the_first_token() -> None:
    found = placed(sample(20, ttft_s=1.0), sample(20, ttft_s=2.0), sample(20, ttft_s=3.0))
    flops = 2 * (900e6 * 100 + 100e6) + 2 * 10 * 1000 * 5050
    assert found.prefill_flops == flops
    assert found.mfu == pytest.approx(flops / 2 / 400e9)
    assert found.mfu_arithmetic.endswith(", 90.2 GFLOP/s of 400 GFLOP/s float32 measured")


def test_what_is_no_prefill_has_no_mfu() -> None:
    engine = msgspec.structs.replace(ENGINE, not_prefill="it trains")
    found = placed(sample(20), engine=engine)
    assert found.mfu is None
    assert found.prefill_flops is None
    assert found.absent == {"mfu": "it trains"}


def test_above_the_roofline_is_a_mistake_and_shown() -> None:
    assert placed(sample(43)).invalid is None
    found = placed(sample(45))
    assert found.mbu == pytest.approx(1.1275, abs=1e-3)
    assert found.invalid is not None
    assert "1.13 times it: 1 GB a step × 45.0 steps/s = 45.1 GB/s, of 40 GB/s" in found.invalid
    assert "median 38 GB/s, quartiles 37 GB/s to 39 GB/s, reading" in found.invalid


def test_integers_may_multiply_faster_than_the_probe() -> None:
    found = placed(sample(20, ttft_s=0.1))
    assert found.mfu == pytest.approx(4.5, abs=0.1)
    assert found.invalid is None
    assert "4.5 times as fast as float32" in found.findings[0]


def test_the_best_probe_of_the_run_is_the_ceiling_and_a_changing_machine_is_named() -> None:
    found = placed(sample(20), probes=(probe(35e9), probe(70e9), probe(36e9)))
    assert found.calibration is not None
    assert (found.calibration.bandwidth_best, found.probes) == (70e9, 3)
    assert found.mbu == pytest.approx(20 * 1.00221 / 70)
    (finding,) = found.findings
    assert "the best of 3 probes of this run lie between 35 GB/s and 70 GB/s" in finding
    assert placed(sample(20), probes=(probe(35e9), probe(40e9))).findings == ()


def test_weights_that_live_in_the_cache_have_no_mbu() -> None:
    small = msgspec.structs.replace(MODEL, dense_bytes=60 * MIB, attention=())
    found = placed(sample(2000), model=small)
    assert found.absent == {
        "mbu": "a step reads 60 MiB, less than twice the 32 MiB last-level cache: "
        "the weights live in the cache"
    }
    assert (found.mbu, found.invalid) == (None, None)
    assert found.mfu is not None


def test_a_cache_of_unknown_size_makes_mbu_doubtful() -> None:
    blind = msgspec.structs.replace(PROBE, last_level_cache_bytes=None)
    found = placed(sample(20), probes=(blind,))
    assert found.mbu is not None
    assert "a step reads 956 MiB" in found.findings[0]


def test_doubts_of_the_probe_and_of_the_model_are_passed_on() -> None:
    disturbed = msgspec.structs.replace(PROBE, findings=("it was disturbed",))
    model = msgspec.structs.replace(MODEL, notes=("a state is not counted",))
    found = placed(sample(20), model=model, probes=(disturbed,))
    assert found.findings == ("it was disturbed", "a state is not counted")


def test_every_absence_has_its_reason() -> None:
    both = ("mbu", "mfu")
    assert placed(sample(20), probes=()).absent == dict.fromkeys(both, "it was switched off")
    assert placed(sample(20), model="no header").absent == dict.fromkeys(both, "no header")
    assert placed().absent == dict.fromkeys(both, "there is no valid sample")
    single = msgspec.structs.replace(sample(20), gaps_s=[])
    assert "a single token" in placed(single).absent["mbu"]
    engine = msgspec.structs.replace(ENGINE, kv_element_bytes=None)
    assert "KV cache is not known" in placed(sample(20), engine=engine).absent["mbu"]
    packed = msgspec.structs.replace(MODEL, layer_parameters=None)
    assert "packed" in placed(sample(20), model=packed).absent["mfu"]
    slow = msgspec.structs.replace(PROBE, flops_best=None, flops_dtype=None)
    assert placed(sample(20), probes=(slow,)).absent == {"mfu": "the matmul rate was not probed"}
