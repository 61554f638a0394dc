"""A large run that nobody measured: many tests on two machines, of every verdict. Always the same.

For how the page looks and how fast it is; no number here was measured.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pytest_llmperf.backends import EngineFacts
from pytest_llmperf.gate.baseline import PairKey
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import Earlier, PairResult
from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Judgement, Verdict
from pytest_llmperf.measure import ByteFigure, Measurement, MemoryUse
from pytest_llmperf.measure.quantity import Quantity, summarize
from pytest_llmperf.measure.roofline import Roofline
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.report.result import (
    Claim,
    Comparison,
    JudgedMeasurement,
    JudgedTest,
    Parameter,
    RatioCheck,
    RunResult,
)
from tests.unit.gate.test_contract import measurement
from tests.unit.measure.test_bottleneck import QUIET
from tests.unit.measure.test_roofline import PROBE
from tests.unit.report.test_result import judge_it, run_result
from tests.unit.report.test_tradeoff import variant

MIB = 2**20
BEGAN = datetime.datetime(2026, 1, 5, 12, tzinfo=datetime.UTC)
MODELS = ("llama-160m", "tinyllama-1.1b", "phi-2", "mistral-7b")
QUANTIZATIONS = ("Q4_K_M", "Q5_K_M", "Q8_0", "F16")
BACKENDS = ("llama-cpp", "transformers")
VERDICTS = (
    *[Verdict.PASSED] * 14, Verdict.REGRESSED, Verdict.IMPROVED, Verdict.INCONCLUSIVE,
    Verdict.NO_BASELINE, Verdict.OVER_BUDGET, Verdict.INVALID,
)  # fmt: skip
CHANGES = {Verdict.REGRESSED: -0.09, Verdict.IMPROVED: 0.12, Verdict.INCONCLUSIVE: -0.045}
REASONS = {
    Verdict.INCONCLUSIVE: "4.5% worse, and sessions of this test differ too much to be sure",
    Verdict.NO_BASELINE: "1 of 3 sessions of history",
    Verdict.OVER_BUDGET: "perf budget broken: decode 19.1 tok/s < min_tps=20",
    Verdict.INVALID: "an mbu of 1.31 proves a mistake",
}


def many_results(root: Path, tests: int = 200, sessions: int = 50) -> dict[str, RunResult]:
    """``tests`` in all, on two machines, each pair with ``sessions`` earlier ones."""
    machine = run_result(root)
    there = msgspec.structs.replace(machine.hardware, fingerprint="there", cpu_fingerprint="there")
    found = {}
    for name, hardware, count in (
        ("here.json", machine.hardware, tests - tests // 2),
        ("there.json", there, tests // 2),
    ):
        chance = random.Random(name)
        found[name] = msgspec.structs.replace(
            machine,
            hardware=hardware,
            strict=False,
            tests=list(_tests(chance, hardware.fingerprint, count, sessions)),
            suite_shifts=[
                SuiteShift(verdict=Verdict.PASSED, effect=-0.004, needed=-0.013, pairs=count)
            ],
            notes=[f"llama-cpp worker of {name} did not leave well"],
        )
    return found


def _tests(
    chance: random.Random, fingerprint: str, count: int, sessions: int
) -> Iterator[JudgedTest]:
    beside = [*_beside(), *_sweep(chance, fingerprint, sessions)][:count]
    for number in range(count - len(beside)):
        yield _test(chance, fingerprint, number, sessions)
    yield from beside


def _test(chance: random.Random, fingerprint: str, number: int, sessions: int) -> JudgedTest:
    """The same model in both engines, one after the other."""
    backend = BACKENDS[number % 2]
    model = MODELS[number // 2 % len(MODELS)]
    quantization = QUANTIZATIONS[number // 8 % len(QUANTIZATIONS)]
    nodeid = f"tests/perf/test_{model}.py::test_chat_{number:03}[{backend}-{quantization}]"
    verdict = VERDICTS[number % len(VERDICTS)]
    seen = a_measurement(chance, f"synthetic:{model}", backend, quantization)
    return a_test(chance, nodeid, seen, verdict, fingerprint, sessions)


def a_test(
    chance: random.Random,
    nodeid: str,
    seen: Measurement,
    verdict: Verdict,
    fingerprint: str = "here",
    sessions: int = 50,
    **parameters: Parameter,
) -> JudgedTest:
    test = nodeid.partition("::")[2]
    if verdict is Verdict.INVALID:
        seen = msgspec.structs.replace(seen, invalid=REASONS[verdict])
    limits = {"min_tps": seen.decode_tps.median * (1.05 if verdict is Verdict.OVER_BUDGET else 0.5)}
    judged: JudgedMeasurement = judge_it(seen, **{k: round(v, 1) for k, v in limits.items()})
    change = CHANGES.get(verdict, chance.gauss(0, 0.006))
    pairs = [
        _pair(chance, PairKey(test, "1", metric, "config"), seen, fingerprint, sessions, each)
        for metric, each in (("decode_tps", change), ("prefill_tps", 0.003), ("ram", 0.0))
    ]
    of_pair = verdict if verdict in {*CHANGES, Verdict.NO_BASELINE} else Verdict.PASSED
    pairs[0] = _judged_pair(pairs[0], of_pair, change)
    again = [seen, seen] if verdict in CHANGES else []
    reason = REASONS.get(verdict, f"decode_tps: {verdict}")
    judged = msgspec.structs.replace(
        judged,
        verdict=verdict,
        pairs=pairs,
        second_look=again,
        reasons=[] if verdict is Verdict.PASSED else [reason],
    )
    return JudgedTest(
        test=nodeid,
        line=12,
        outcome="failed" if verdict.fails(strict=False) else "passed",
        parameters=parameters,
        verdict=verdict,
        measurements=[judged],
        reason=f"Failed: {reason}" if verdict.fails(strict=False) else None,
    )


def a_measurement(
    chance: random.Random, source: str, backend: str, quantization: str, speed: float | None = None
) -> Measurement:
    decode = chance.uniform(15, 180) if speed is None else speed
    first_ms = 512e3 / (decode * chance.uniform(8, 20))
    gap_ms = 1e3 / decode

    def some(metric: str, middle: float, count: int = 10, *, keep: bool = True) -> Quantity:
        values = [middle * chance.lognormvariate(0, 0.02) for _ in range(count)]
        return summarize(values, BY_NAME[metric].unit, keep=keep)

    size = round(chance.uniform(200, 6000)) * MIB
    peak = ByteFigure(bytes=size, kind="exact", how="VmHWM, reset after the load")
    bound = ByteFigure(bytes=size // 3, kind="bound", how="sum", low_bytes=size // 4)
    metrics = {
        "load": some("load", 2.1, 1),
        "decode_tps": some("decode_tps", decode),
        "prefill_tps": some("prefill_tps", 512e3 / first_ms),
        "ttft": some("ttft", first_ms),
        "itl": some("itl", gap_ms, 310, keep=False),
        "tpot": some("tpot", gap_ms),
        "e2e": some("e2e", first_ms + 127 * gap_ms),
        "ram": summarize([size / 2**30], "GiB"),
        "mbu": summarize([0.62], ""),
        "mfu": summarize([0.31], ""),
    }
    return msgspec.structs.replace(
        measurement(),
        spec=ModelSpec(source, quantization),
        backend=backend,
        version="0.3.36",
        engine=EngineFacts(
            vocab_size=32000, context_tokens=4096, options={}, build="AVX2 | FMA", threads=2
        ),
        metrics=metrics,
        absent={"vram": "no GPU"},
        memory=MemoryUse(
            peak=peak, load=peak, prefill=peak, decode=peak, anon=bound, file=peak, pss=None,
            processes=1, unknown={},
        ),
        conditions=QUIET,
        roofline=Roofline(
            calibration=PROBE, probes=4, mbu=0.62, bytes_per_s=24.8e9, mfu=0.31, flops_per_s=124e9
        ),
        findings=["the load was warm: weights were in the page cache"],
    )  # fmt: skip


def _pair(
    chance: random.Random,
    key: PairKey,
    seen: Measurement,
    fingerprint: str,
    sessions: int,
    change: float,
) -> PairResult:
    value = seen.metrics[key.metric].median
    normal = value / (1 + change)
    noise = 0.0005 if key.metric == "ram" else 0.008
    earlier = [
        Earlier(
            date=f"{BEGAN + datetime.timedelta(days=5 * day):%Y-%m-%dT%H:%M}",
            value=float(f"{normal * chance.lognormvariate(0, noise):.6g}"),
            epoch=0,
            commit=f"{chance.getrandbits(48):012x}",
        )
        for day in range(sessions)
    ]
    return PairResult(
        module="tests/perf/test_it.py", key=key, fingerprint=fingerprint, is_gated=True,
        verdict=Verdict.PASSED, tolerance=0.03,
        judgement=Judgement(
            verdict=Verdict.PASSED, effect=change, low=change - 0.02, high=change + 0.02,
            mde=0.04, sessions=sessions,
        ),
        normal=normal, since="2026-11-20", value=value, looks=[], conditions={}, software={},
        earlier=earlier,
    )  # fmt: skip


def _judged_pair(pair: PairResult, verdict: Verdict, change: float) -> PairResult:
    if verdict is Verdict.NO_BASELINE:
        judgement = Judgement(verdict=verdict, reasons=(REASONS[verdict],))
        return msgspec.structs.replace(
            pair, verdict=verdict, judgement=judgement, normal=None, earlier=pair.earlier[:1]
        )
    reasons = (REASONS[verdict],) if verdict in REASONS else ()
    judgement = msgspec.structs.replace(
        pair.judgement, verdict=verdict, effect=change, reasons=reasons
    )
    return msgspec.structs.replace(pair, verdict=verdict, judgement=judgement)


def _sweep(chance: random.Random, fingerprint: str, sessions: int) -> Iterator[JudgedTest]:
    for threads, speed in ((1, 52.0), (2, 98.0), (4, 160.0), (8, 166.0)):
        seen = a_measurement(chance, "synthetic:llama-160m", "llama-cpp", "Q4_K_M", speed)
        seen = msgspec.structs.replace(seen, requested={"n_threads": str(threads)})
        yield a_test(
            chance,
            f"tests/perf/test_threads.py::test_threads[{threads}]",
            seen,
            Verdict.PASSED,
            fingerprint,
            sessions,
            n_threads=threads,
        )


def _beside() -> Iterator[JudgedTest]:
    """What is no plain measurement: skips, failures of other kinds, arms, variants, a claim."""
    for number, reason in enumerate(
        ["needs a GPU, has none"] * 3
        + ["vllm is not installed: pip install 'pytest-llmperf[vllm]'"] * 2
        + ["needs 24.0 GB VRAM (weights 13.5 + KV 8.0 + compute 0.6–1.4 at 32768 tokens)"]
    ):
        yield JudgedTest(
            test=f"tests/perf/test_gpu.py::test_{number}",
            outcome="skipped",
            verdict=None,
            measurements=[],
            reason=reason,
        )
    yield JudgedTest(
        test="tests/perf/test_answers.py::test_it_answers",
        outcome="failed", verdict=None, measurements=[], reason="AssertionError: assert 3 == 4",
    )  # fmt: skip
    yield JudgedTest(
        test="tests/perf/test_answers.py::test_fixture",
        outcome="error", verdict=None, measurements=[], reason="KeyError: 'MODEL'",
    )  # fmt: skip
    yield JudgedTest(
        test="tests/perf/test_arms.py::test_quantized_is_faster",
        outcome="passed", verdict=Verdict.PASSED, measurements=[], comparisons=[a_comparison()],
        claim=Claim(text="Q4_K_M decodes faster than Q8_0"), told={"ratio": "1.42"},
    )  # fmt: skip
    for name, speed, ram, kl in (
        ("Q4_K_M", 30, 1.0, 0.05), ("Q5_K_M", 25, 1.2, 0.02), ("Q8_0", 20, 2.0, 0.001),
        ("F16", 12, 3.8, 0.0001), ("Q6_K", 19, 2.1, 0.004),
    ):  # fmt: skip
        yield variant(name, speed, ram, kl)


def a_comparison(label: str = "quantization Q4_K_M") -> Comparison:
    return Comparison(
        name="1", metric="decode_tps", label_a=label, label_b="quantization Q8_0",
        ratio=1.42, low=1.38, high=1.46, pairs=4,
        memory_ratio=0.61, memory_low=0.6, memory_high=0.62,
        verdict=Verdict.PASSED,
        checks=[RatioCheck(text="min_speedup=1.1", verdict=Verdict.PASSED, reason="")],
        invalid=None, a=[measurement(decode_tps=142)], b=[measurement(decode_tps=100)],
    )  # fmt: skip
