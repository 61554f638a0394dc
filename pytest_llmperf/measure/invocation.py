"""How is one loaded model measured? Warm up until steady, then n samples, then the peaks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import msgspec

from pytest_llmperf.measure.measurement import Measurement
from pytest_llmperf.measure.memory import MemoryPeak, MemoryWatch
from pytest_llmperf.measure.quantity import Quantity, summarize
from pytest_llmperf.measure.timeline import InvalidSample, Sample, read_sample
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.messages import Generate, Generated
from pytest_llmperf.worker.pool import LoadedModel

STEADY = 0.02
"""Two consecutive medians of three samples agree when they differ by no more than this share."""
_TRIPLE = 3
_MOST_TRIPLES = 3
_LEAST_SAMPLES = 5

Progress = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much measuring one invocation does."""

    samples: int = 10
    time_budget_s: float = 60.0
    """Past it, fewer samples are taken, but never fewer than 5."""
    timeout_s: float = 600.0
    """How long one request may take before the worker counts as hung."""


def measure(
    model: LoadedModel,
    workload: Workload,
    plan: Plan,
    *,
    name: str = "",
    progress: Progress | None = None,
) -> Measurement:
    """Measure ``workload`` on a loaded model.

    Raises EngineRefusal for a workload that the engine cannot take, and WorkerError when the
    worker fails. A request that breaks a rule of metrics does not raise: the measurement comes
    back with ``invalid`` saying which.
    """
    check_fits(model, workload)
    began = time.monotonic()
    watch = MemoryWatch(model.worker.pid, model.load_peak_bytes, model.requests)
    model.load_peak_bytes = watch.load_bytes
    requests = _Requests(model, workload, plan, progress)
    warmup: list[Sample] = []
    samples: list[Sample] = []
    invalid = None
    try:
        warmup = warm_up(requests.next)
        count, findings = sample_count(warmup, plan)
        if not is_steady(warmup):
            findings.append(f"not steady after {len(warmup)} warm-up samples")
        samples = [requests.next(f"sample {1 + i} of {count}") for i in range(count)]
    except InvalidSample as error:
        invalid, findings, samples = str(error), [], []
    memory = watch.read()
    return Measurement(
        name=name,
        spec=model.loading.spec,
        files=model.files,
        backend=model.backend,
        version=model.version,
        engine=model.engine,
        workload=workload,
        invocation=model.invocation,
        warmup_samples=len(warmup),
        steady=is_steady(warmup),
        metrics=summarize_metrics(samples, model.load_s, memory),
        memory=memory,
        findings=findings,
        invalid=invalid,
        wall_s=time.monotonic() - began,
    )


def check_fits(model: LoadedModel, workload: Workload) -> None:
    """Raises EngineRefusal, with the numbers, when the context is too small for the workload."""
    room = model.engine.context_tokens
    if workload.total_tokens > room:
        raise EngineRefusal(
            f"{workload.prompt_tokens} prompt + {workload.new_tokens} new tokens need a context "
            f"of {workload.total_tokens}, but {model.backend} was loaded with {room}: ask for "
            "fewer tokens, or load the model with a larger context (llama-cpp: n_ctx=…)"
        )


class _Requests:
    """Sends request after request, each with a prompt of its own."""

    def __init__(
        self, model: LoadedModel, workload: Workload, plan: Plan, progress: Progress | None
    ) -> None:
        self._model, self._workload, self._plan = model, workload, plan
        self._progress = progress
        self._sent = 0

    def next(self, what: str) -> Sample:
        """Time one request. Raises InvalidSample, WorkerError."""
        workload = self._workload
        prompt = workload.prompt(self._sent, self._model.engine.vocab_size)
        self._sent += 1
        self._model.requests += 1
        self._tell(what)
        answer = self._model.worker.ask(
            Generate(prompt=prompt, new_tokens=workload.new_tokens),
            self._plan.timeout_s,
            lambda phase: self._tell(f"{what}, {phase}"),
            purpose=what,
        )
        if not isinstance(answer, Generated):
            raise InvalidSample(f"the worker answered Generate with {type(answer).__name__}")
        return read_sample(answer, workload.prompt_tokens, workload.new_tokens)

    def _tell(self, what: str) -> None:
        if self._progress is not None:
            self._progress(what)


def warm_up(take: Callable[[str], Sample]) -> list[Sample]:
    """Take triples of samples until two consecutive ones agree, three triples at the most."""
    samples: list[Sample] = []
    while len(samples) < _MOST_TRIPLES * _TRIPLE and not is_steady(samples):
        samples += [take(f"warm-up {len(samples) + i + 1}") for i in range(_TRIPLE)]
    return samples


def is_steady(samples: Sequence[Sample]) -> bool:
    """Whether the medians of the last two disjoint triples differ by at most 2 %."""
    if len(samples) < 2 * _TRIPLE:
        return False
    times = [sample.e2e_s for sample in samples]
    before = statistics.median(times[-2 * _TRIPLE : -_TRIPLE])
    after = statistics.median(times[-_TRIPLE:])
    return abs(after - before) <= STEADY * before


def sample_count(warmup: Sequence[Sample], plan: Plan) -> tuple[int, list[str]]:
    """How many samples the time budget allows, and what has to be said about it.

    The samples are foreseen to take as long as the last triple of the warm-up did.
    """
    spent_s = sum(sample.e2e_s for sample in warmup)
    each_s = statistics.median(sample.e2e_s for sample in warmup[-_TRIPLE:])
    affordable = int((plan.time_budget_s - spent_s) / each_s)
    least = min(_LEAST_SAMPLES, plan.samples)
    count = max(least, min(plan.samples, affordable))
    if affordable < least:
        total_s = spent_s + count * each_s
        finding = (
            f"workload too large for the time budget: about {total_s:.0f} s of "
            f"{plan.time_budget_s:g} s, with {count} samples"
        )
        return count, [finding]
    return count, []


def summarize_metrics(
    samples: Sequence[Sample], load_s: float, memory: MemoryPeak | None
) -> dict[str, Quantity]:
    """Every metric that these samples have, by name, in the units of docs/metrics.md."""
    metrics = {"load": summarize([load_s], "s")}
    if memory is not None:
        peak = summarize([memory.peak_bytes / 2**30], "GiB")
        metrics["ram"] = msgspec.structs.replace(peak, kind=memory.kind, how=memory.how)
    if not samples:
        return metrics
    metrics["ttft"] = summarize([sample.ttft_s * 1e3 for sample in samples], "ms")
    metrics["prefill_tps"] = summarize([sample.prefill_tps for sample in samples], "tok/s")
    metrics["e2e"] = summarize([sample.e2e_s * 1e3 for sample in samples], "ms")
    speeds = [sample.decode_tps for sample in samples if sample.decode_tps is not None]
    if speeds:
        metrics["decode_tps"] = summarize(speeds, "tok/s")
        tpots = [sample.tpot_s * 1e3 for sample in samples if sample.tpot_s is not None]
        metrics["tpot"] = summarize(tpots, "ms")
        gaps = [gap * 1e3 for sample in samples for gap in sample.gaps_s]
        metrics["itl"] = summarize(gaps, "ms", keep=False)
    return metrics
