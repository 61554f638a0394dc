"""How is one loaded model measured? Warm up until steady, then n samples, then the peaks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from pytest_llmperf.fit.before_load import Expectation
from pytest_llmperf.measure.engine_clock import compare_clocks, disagreements
from pytest_llmperf.measure.instruments import Instruments
from pytest_llmperf.measure.measurement import Measurement
from pytest_llmperf.measure.observer import Observed, Observer
from pytest_llmperf.measure.requests import Progress, Requests
from pytest_llmperf.measure.roofline import Roofline
from pytest_llmperf.measure.summary import summarize_metrics
from pytest_llmperf.measure.timeline import InvalidSample, Sample, read_queue, read_sample
from pytest_llmperf.measure.workload import RANDOM, Workload
from pytest_llmperf.models.spec import SYNTHETIC
from pytest_llmperf.models.weight_files import changed_since
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.messages import Generated
from pytest_llmperf.worker.pool import LoadedModel

STEADY = 0.02
"""Two consecutive medians of three samples agree when they differ by no more than this share."""
_TRIPLE = 3
_MOST_TRIPLES = 3
_LEAST_SAMPLES = 5


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much measuring one invocation does."""

    samples: int = 10
    time_budget_s: float = 60.0
    """Past it, fewer samples are taken, but never fewer than 5."""
    timeout_s: float = 600.0
    """How long one request may take before the worker counts as hung."""
    watch: bool = True
    """Whether memory and conditions are watched; off only to see what watching costs."""


def measure(
    model: LoadedModel,
    workload: Workload,
    plan: Plan,
    instruments: Instruments,
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
    requests = Requests(model, workload, plan.timeout_s, progress)
    observer = Observer(model, instruments, requests, watch=plan.watch)

    taken = _take(requests, observer, workload, plan)
    seen = observer.finish(valid=taken.invalid is None)
    wall_s = time.monotonic() - began
    if progress is not None:
        progress("probes the machine")
    found = _tell(model, workload, instruments, taken, seen)
    return msgspec.structs.replace(found, name=name, wall_s=wall_s)


def _tell(
    model: LoadedModel,
    workload: Workload,
    instruments: Instruments,
    taken: _Taken,
    seen: Observed,
) -> Measurement:
    """All that is known of the samples, beside the machine as its probes find it."""
    probe, probe_after = instruments.probes_around(model)
    clocks = compare_clocks(taken.samples)
    changed = changed_since(model.loading.stamps)
    roofline = _place(model, workload, taken.samples, instruments, changed)
    of_server = model.engine.server is not None
    metrics, absent = summarize_metrics(
        taken.samples, model.load, seen, roofline, of_server=of_server
    )
    expected = instruments.expected(model.loading)
    return Measurement(
        name="",
        spec=model.loading.spec,
        files=model.files,
        backend=model.backend,
        version=model.version,
        engine=model.engine,
        workload=workload,
        requested=model.loading.requested,
        probe=probe,
        probe_after=probe_after,
        invocation=model.invocation,
        warmup_samples=len(taken.warmup),
        steady=is_steady(taken.warmup),
        answer=taken.answer,
        metrics=metrics,
        absent=absent,
        load_facts=model.load,
        memory=seen.memory,
        devices=seen.devices,
        conditions=seen.conditions,
        gpu_conditions=seen.gpu_conditions,
        expected=expected,
        roofline=roofline,
        clocks=clocks,
        findings=[
            *_caveats(model, workload),
            *taken.findings,
            *disagreements(clocks, model.backend),
            *seen.findings,
            *(roofline.findings if roofline else ()),
            *_changes(changed, expected),
        ],
        invalid=taken.invalid or (roofline.invalid if roofline else None),
    )


def _caveats(model: LoadedModel, workload: Workload) -> list[str]:
    """What the reader should know of the engine's numbers, for these prompts."""
    is_noise = workload.prompts == RANDOM or model.loading.spec.source.startswith(SYNTHETIC)
    random = model.engine.random_caveats if is_noise else []
    return [*model.engine.caveats, *random]


def _changes(changed: str | None, expected: Expectation | None) -> list[str]:
    """What of files and memory makes the numbers doubtful."""
    files = [f"model file changed while it was measured: {changed}"] if changed else []
    return files + [f"memory is tight: {each}" for each in (expected.reasons if expected else ())]


@dataclass
class _Taken:
    """What the requests came to."""

    warmup: list[Sample] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    invalid: str | None = None


def _take(requests: Requests, observer: Observer, workload: Workload, plan: Plan) -> _Taken:
    """Warm up, then take the samples; one that breaks a rule of metrics ends it."""
    taken = _Taken()

    lengths = workload.lengths

    def sample(answer: Generated) -> Sample:
        taken.answer = taken.answer or answer.token_ids
        if lengths:
            return read_queue(answer, workload.prompt_tokens, lengths)
        return read_sample(answer, workload.prompt_tokens, workload.new_tokens, workload.batch)

    try:
        taken.warmup = warm_up(lambda what: sample(requests.send(what)))
        count, findings = sample_count(taken.warmup, plan)
        if not is_steady(taken.warmup):
            findings.append(f"not steady after {len(taken.warmup)} warm-up samples")
        taken.samples = [sample(observer.take(f"sample {1 + i} of {count}")) for i in range(count)]
        taken.findings = findings
    except InvalidSample as error:
        taken.invalid = str(error)
    return taken


def _place(
    model: LoadedModel,
    workload: Workload,
    samples: Sequence[Sample],
    instruments: Instruments,
    changed: str | None,
) -> Roofline | None:
    """Beside the machine's limits; an accusation is checked with one more probe first.

    None for a queue: how many sequences a step decodes is the engine's choice.
    """
    if workload.lengths:
        return None
    placed = instruments.place(model, workload, samples, changed)
    if placed is None or not placed.invalid:
        return placed
    # The earlier probes may have met the machine at a slow moment.
    instruments.calibrate(model.engine.device)
    return instruments.place(model, workload, samples, changed)


def check_fits(model: LoadedModel, workload: Workload) -> None:
    """Raises EngineRefusal, with the numbers, when the engine has no room for the workload."""
    room = model.engine.context_tokens
    if workload.total_tokens > room:
        depth = f"{workload.depth} tokens of depth + " if workload.depth else ""
        raise EngineRefusal(
            f"{depth}{workload.prompt_tokens} prompt + {workload.new_tokens} new tokens need a "
            f"context of {workload.total_tokens}, but {model.backend} was loaded with {room}: ask "
            "for fewer tokens, or load the model with a larger context (llama-cpp: n_ctx=…)"
        )
    most = model.engine.batch
    if workload.lengths:
        if not model.engine.queue:
            raise EngineRefusal(
                f"{model.backend} as it was loaded decodes sequences in step: it takes no queue of "
                f"requests of {workload.new} tokens. transformers does, without what drafts tokens"
            )
    elif most is not None and workload.batch > most:
        raise EngineRefusal(
            f"a batch of {workload.batch} sequences, but {model.backend} was loaded for {most}: "
            f"{model.engine.batch_remedy or 'ask for fewer'}"
        )


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
    spent_s = sum(sample.whole_s for sample in warmup)
    each_s = statistics.median(sample.whole_s for sample in warmup[-_TRIPLE:])
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
