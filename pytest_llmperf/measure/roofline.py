"""How near did a measurement come to the limits of the machine? The arithmetic of mbu and mfu.

mbu: the bytes that a step must read × steps per second ÷ the best bandwidth that a probe of this
run found. mfu: the operations that a prompt must take ÷ the time to its first token ÷ the best
matmul rate of a probe. Definitions: docs/metrics.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from pytest_llmperf.backends import EngineFacts
from pytest_llmperf.hardware.calibration import DISTURBED, Calibration
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.models.step import Traffic, prefill_flops, step_bytes

MOST = 1.1
"""An mbu above it proves a mistake: no engine reads faster than the machine can."""


class Roofline(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement beside the limits of the device that computed it. No unit: a ratio."""

    calibration: Calibration | None = None
    """The probe with the highest bandwidth so far in this run; None: no probe."""
    probes: int = 0
    """How many there were to choose from."""
    step_bytes: int | None = None
    """What one decode step must read, all sequences together."""
    steps_per_s: float | None = None
    """Median over the samples."""
    bytes_per_s: float | None = None
    """Their product: what was read at the least."""
    mbu: float | None = None
    prefill_flops: float | None = None
    """What the prompts of one request must take, all sequences together."""
    flops_per_s: float | None = None
    """What was computed at the least, by the median time to the first token."""
    mfu: float | None = None
    absent: dict[str, str] = {}
    """Why ``mbu`` or ``mfu`` is not there."""
    arithmetic: str = ""
    """How mbu came about, for the reader of a failure."""
    mfu_arithmetic: str = ""
    findings: tuple[str, ...] = ()
    invalid: str | None = None
    """Why the measurement must be wrong."""


class _Share(msgspec.Struct, frozen=True, kw_only=True):
    """One ratio and what it is made of; or why there is none."""

    work: float | None = None
    achieved: float | None = None
    ratio: float | None = None
    arithmetic: str = ""
    absent: str = ""
    findings: Sequence[str] = ()
    invalid: str | None = None


def place(
    traffic: Traffic | str,
    engine: EngineFacts,
    workload: Workload,
    samples: Sequence[Sample],
    calibrations: Sequence[Calibration],
    *,
    uncalibrated: str = "the memory bandwidth was not probed",
) -> Roofline:
    """Compare ``samples`` with the best of ``calibrations``, all of the device that computed.

    ``traffic`` as a text says why the model's is not known, ``uncalibrated`` why there is no
    probe. ``engine`` states the sizes in memory where they are not those of the files.
    """
    why = ""
    if isinstance(traffic, str):
        why = traffic
    elif not calibrations:
        why = uncalibrated
    elif not samples:
        why = "there is no valid sample"
    if why or isinstance(traffic, str):
        return Roofline(probes=len(calibrations), absent={"mbu": why, "mfu": why})
    best = max(calibrations, key=lambda each: each.bandwidth_best)
    read = _bandwidth_share(traffic, engine, workload, samples, best)
    computed = _Share(absent=engine.not_prefill)
    if not engine.not_prefill:
        computed = _compute_share(traffic, workload, samples, calibrations)
    reasons = {"mbu": read.absent, "mfu": computed.absent}
    return Roofline(
        calibration=best,
        probes=len(calibrations),
        step_bytes=None if read.work is None else round(read.work),
        steps_per_s=_steps_per_s(samples),
        bytes_per_s=read.achieved,
        mbu=read.ratio,
        prefill_flops=computed.work,
        flops_per_s=computed.achieved,
        mfu=computed.ratio,
        absent={name: reason for name, reason in reasons.items() if reason},
        arithmetic=read.arithmetic,
        mfu_arithmetic=computed.arithmetic,
        findings=(
            *best.findings,
            *_drift(calibrations),
            *traffic.notes,
            *read.findings,
            *computed.findings,
        ),
        invalid=read.invalid,
    )


def _bandwidth_share(
    traffic: Traffic,
    engine: EngineFacts,
    workload: Workload,
    samples: Sequence[Sample],
    best: Calibration,
) -> _Share:
    steps_per_s = _steps_per_s(samples)
    if steps_per_s is None:
        return _Share(absent="a single token was generated: there is no decode to time")
    if any(sample.chunk_gaps_s for sample in samples):
        return _Share(absent="several tokens arrived at once, in how many steps is not known")
    if engine.kv_element_bytes is None:
        return _Share(absent="the element size of the engine's KV cache is not known")
    scale = 1.0
    if engine.weight_element_bytes is not None:
        scale = 8 * engine.weight_element_bytes / traffic.bits_per_weight
    needed = step_bytes(
        traffic,
        batch=workload.batch,
        depth_tokens=workload.decode_depth,
        kv_element_bytes=engine.kv_element_bytes,
        weight_scale=scale,
    )
    achieved = needed * steps_per_s
    cache_bytes = best.last_level_cache_bytes
    if cache_bytes is not None and needed < 2 * cache_bytes:
        absent = (
            f"a step reads {_mib(needed)}, less than twice the {_mib(cache_bytes)} last-level "
            "cache: the weights live in the cache"
        )
        return _Share(work=needed, achieved=achieved, absent=absent)
    findings = []
    if cache_bytes is None:
        findings.append(
            f"mbu may be too high: a step reads {_mib(needed)}, and how much of it the "
            "last-level cache holds is not known"
        )
    if traffic.experts and workload.batch > 1:
        findings.append(
            "how many experts a batch reads is an expectation: real sequences may choose alike, "
            "and mbu is too high then"
        )
    ratio = achieved / best.bandwidth_best
    arithmetic = (
        f"{_si(needed, 'B')} a step × {steps_per_s:.1f} steps/s = {_si(achieved, 'B/s')}, "
        f"of {_si(best.bandwidth_best, 'B/s')} measured"
    )
    return _Share(
        work=needed,
        achieved=achieved,
        ratio=ratio,
        arithmetic=arithmetic,
        findings=findings,
        # A doubt about the bytes is no proof of a mistake.
        invalid=None if findings else _above(ratio, arithmetic, best),
    )


def _above(ratio: float, arithmetic: str, best: Calibration) -> str | None:
    if ratio <= MOST:
        return None
    return (
        f"decode above the machine's memory bandwidth, {ratio:.2f} times it: {arithmetic} (probe: "
        f"median {_si(best.bandwidth_median, 'B/s')}, quartiles {_si(best.bandwidth_low, 'B/s')} "
        f"to {_si(best.bandwidth_high, 'B/s')}, {best.how}); the tokens, the model's sizes or the "
        "probe are wrong"
    )


def _compute_share(
    traffic: Traffic,
    workload: Workload,
    samples: Sequence[Sample],
    calibrations: Sequence[Calibration],
) -> _Share:
    """Not held against :data:`MOST`.

    Engines multiply quantized weights in 8-bit integers, for which processors have instructions
    (VNNI, AMX, i8mm) that outrun the probe's type by up to 16 times.
    """
    flops = prefill_flops(
        traffic,
        batch=workload.batch,
        prompt_tokens=workload.prompt_tokens,
        depth=workload.depth,
    )
    if flops is None:
        return _Share(absent="the weights are packed: the file does not tell their multiplications")
    achieved = flops / statistics.median(sample.ttft_s for sample in samples)
    best = max(calibrations, key=lambda each: each.flops_best or 0.0)
    if not best.flops_best:
        return _Share(work=flops, achieved=achieved, absent="the matmul rate was not probed")
    ratio = achieved / best.flops_best
    arithmetic = (
        f"{_si(flops, 'FLOP')} a request, {_si(achieved, 'FLOP/s')} of "
        f"{_si(best.flops_best, 'FLOP/s')} {best.flops_dtype} measured"
    )
    findings = []
    if ratio > MOST:
        findings.append(
            f"prefill ran {ratio:.1f} times as fast as {best.flops_dtype} matrices multiply here: "
            "the engine computes in a type for which the machine is faster"
        )
    return _Share(
        work=flops, achieved=achieved, ratio=ratio, arithmetic=arithmetic, findings=findings
    )


def _drift(calibrations: Sequence[Calibration]) -> tuple[str, ...]:
    """Whether the machine itself changed between the probes, which no single probe can see."""
    rates = sorted(each.bandwidth_best for each in calibrations)
    if rates[-1] <= DISTURBED * rates[0]:
        return ()
    finding = (
        f"the machine's memory bandwidth changes: the best of {len(rates)} probes of this run "
        f"lie between {_si(rates[0], 'B/s')} and {_si(rates[-1], 'B/s')}"
    )
    return (finding,)


def _steps_per_s(samples: Sequence[Sample]) -> float | None:
    rates = [sample.steps_per_s for sample in samples if sample.steps_per_s is not None]
    return statistics.median(rates) if rates else None


def _mib(amount: float) -> str:
    return f"{amount / 2**20:.0f} MiB"


def _si(amount: float, unit: str) -> str:
    """Three digits with a decimal prefix: ``1.17 GB``."""
    for factor, prefix in ((1e12, "T"), (1e9, "G")):
        if amount >= factor:
            return f"{amount / factor:.3g} {prefix}{unit}"
    return f"{amount / 1e6:.3g} M{unit}"
