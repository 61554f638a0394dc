"""Which metrics does a measurement have, and why not the others?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pytest_llmperf.measure.byte_figure import ByteFigure
from pytest_llmperf.measure.device_memory import device_figures
from pytest_llmperf.measure.observer import Observed
from pytest_llmperf.measure.quantity import Quantity, summarize
from pytest_llmperf.measure.roofline import Roofline
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.worker.loading import LoadFacts

GIB = 2**30
_OF_PREFILL = ("prefill_tps", "mfu")
_IN_STEP = ("ttft", "prefill_tps", "decode_tps", "tpot", "itl", "mbu", "mfu")


def summarize_metrics(
    samples: Sequence[Sample],
    load: LoadFacts,
    seen: Observed,
    roofline: Roofline | None,
    *,
    of_server: bool = False,
) -> tuple[dict[str, Quantity], dict[str, str]]:
    """Every metric by name, in the units of docs/metrics.md; and why others are absent.

    ``of_server``: its first token is gated as such, because what it waits for is no prefill alone.
    """
    loaded = msgspec.structs.replace(summarize([load.load_s], "s"), how=load.how)
    metrics = {"load": loaded, **_times(samples), **_memory(seen)}
    absent = dict(seen.absent)
    if any(sample.queue for sample in samples):
        absent |= dict.fromkeys(_IN_STEP, "the sequences of a queue are not in step")
    if roofline is not None:
        metrics |= _shares(roofline)
        absent |= roofline.absent
    if of_server:
        for name in _OF_PREFILL:
            metrics.pop(name, None)
            absent[name] = "a server's queue is not prefill; its ttft is gated instead"
    return metrics, absent


def _shares(roofline: Roofline) -> dict[str, Quantity]:
    """Of the medians: a share of each sample would say no more than its speed does."""
    return {
        name: msgspec.structs.replace(summarize([value], ""), how=how)
        for name, value, how in (
            ("mbu", roofline.mbu, roofline.arithmetic),
            ("mfu", roofline.mfu, roofline.mfu_arithmetic),
        )
        if value is not None
    }


def _times(samples: Sequence[Sample]) -> dict[str, Quantity]:
    if not samples:
        return {}
    queues = [(sample.queue, sample.e2e_s) for sample in samples if sample.queue is not None]
    if queues:
        return {
            "queue_tps": summarize([queue.tokens / e2e_s for queue, e2e_s in queues], "tok/s"),
            "step_tokens": summarize([queue.tokens / queue.steps for queue, _ in queues], ""),
            "e2e": summarize([e2e_s * 1e3 for _, e2e_s in queues], "ms"),
        }
    metrics = {
        "ttft": summarize([sample.ttft_s * 1e3 for sample in samples], "ms"),
        "prefill_tps": summarize([sample.prefill_tps for sample in samples], "tok/s"),
        "e2e": summarize([sample.e2e_s * 1e3 for sample in samples], "ms"),
    }
    speeds = [sample.decode_tps for sample in samples if sample.decode_tps is not None]
    if speeds:
        metrics["decode_tps"] = summarize(speeds, "tok/s")
        tpots = [sample.tpot_s * 1e3 for sample in samples if sample.tpot_s is not None]
        metrics["tpot"] = summarize(tpots, "ms")
        gaps = [gap * 1e3 for sample in samples for gap in sample.gaps_s]
        metrics["itl"] = summarize(gaps, "ms", keep=False)
    chunk_gaps = [gap * 1e3 for sample in samples for gap in sample.chunk_gaps_s or ()]
    if chunk_gaps:
        metrics["icl"] = summarize(chunk_gaps, "ms", keep=False)
        metrics["chunk_tokens"] = summarize(
            [each for sample in samples for each in _chunks(sample)], ""
        )
    return metrics


def _chunks(sample: Sample) -> list[float]:
    """The mean of one sample; none where all came at once."""
    gaps = sample.chunk_gaps_s
    return [len(sample.gaps_s) / len(gaps)] if gaps else []


def _memory(seen: Observed) -> dict[str, Quantity]:
    metrics = {}
    if seen.memory is not None:
        metrics["ram"] = _bytes(seen.memory.peak)
        if seen.memory.anon is not None:
            metrics["ram_anon"] = _bytes(seen.memory.anon)
    for name, figure in device_figures(seen.devices).items():
        metrics[name] = _bytes(figure)
    return metrics


def _bytes(figure: ByteFigure) -> Quantity:
    return msgspec.structs.replace(
        summarize([figure.bytes / GIB], "GiB"),
        kind=figure.kind,
        how=figure.how,
        at_least=None if figure.low_bytes is None else figure.low_bytes / GIB,
        slack=(figure.slack_bytes or 0) / GIB,
    )
