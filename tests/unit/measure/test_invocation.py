"""Does one measurement warm up, count and summarize as docs/metrics.md says?"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import pytest

from pytest_llmperf.backends import EngineFacts, Request, find_backend
from pytest_llmperf.backends.protocol import TextTokens
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import (
    Instruments,
    Measurement,
    MetricAbsent,
    Plan,
    Workload,
    check_fits,
    disturbances,
)
from pytest_llmperf.measure import measure as measure_with
from pytest_llmperf.measure.invocation import (
    is_steady,
    sample_count,
    warm_up,
)
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.host import Worker
from pytest_llmperf.worker.loading import LoadFacts, Loading
from pytest_llmperf.worker.messages import Generate, Generated, Tokenize, Tokenized
from pytest_llmperf.worker.peaks import read_tree
from pytest_llmperf.worker.pool import LoadedModel
from tests.unit.worker.answers import generated

TASK = Workload(prompt_tokens=100, new_tokens=3)
LOAD = LoadFacts(load_s=2.0, import_s=0.5, cached_share=1.0, major_faults=0, disk_share=0.0)
INSTRUMENTS = Instruments(detect())


def measure(model: LoadedModel, workload: Workload, plan: Plan, **others: Any) -> Measurement:
    """Without what the machine at hand is doing beside it."""
    seen = measure_with(model, workload, plan, INSTRUMENTS, **others)
    told = seen.conditions is not None and disturbances.findings(seen.conditions)
    own = [finding for finding in seen.findings if not told or finding not in told]
    return msgspec.structs.replace(seen, findings=own)


def took(seconds: float) -> Sample:
    """A request whose first of three tokens comes after half of ``seconds``."""
    gap = seconds / 4
    return Sample(
        prompt_tokens=100,
        new_tokens=3,
        ttft_s=seconds / 2,
        e2e_s=seconds,
        whole_s=seconds,
        gaps_s=[gap, gap],
    )


def one_after_another(seconds: list[float]) -> Callable[[str], Sample]:
    """Requests that take these times; one more is an error."""
    left = iter(seconds)
    return lambda what: took(next(left))


class Scripted:
    """Answers requests as a worker does; request ``i`` takes ``seconds(i)``."""

    def __init__(self, seconds: Callable[[int], float], *, missing_from: int = 1000) -> None:
        self.pid = os.getpid()
        self.requests: list[Request] = []
        self.observed: list[str] = []
        self.stills = 0
        self._seconds = seconds
        self._missing_from = missing_from

    def ask(
        self,
        message: Generate | Tokenize,
        timeout_s: float,
        tick: object = None,
        *,
        purpose: str = "",
    ) -> Generated | Tokenized:
        if isinstance(message, Tokenize):
            return Tokenized(tokens=TextTokens(ids=[1] * 1000))
        whole_ns = round(self._seconds(len(self.requests)) * 1e9)
        short = len(self.requests) >= self._missing_from
        self.requests.append(message.request)
        self.observed.append(message.observe)
        instants = [whole_ns // 2, whole_ns * 3 // 4, whole_ns]
        return generated(instants_ns=instants, count=2 if short else 3)

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        self.stills += 1
        yield


def loaded(
    worker: Scripted, context_tokens: int = 4096, source: str = "synthetic:llama-15m"
) -> LoadedModel:
    backend = find_backend("fake")
    loading = Loading(
        spec=ModelSpec(source),
        files=None,
        backend=backend,
        options=backend.options_type(),
        timeout_s=60,
    )
    return LoadedModel(
        loading=loading,
        worker=cast("Worker", worker),
        version="1",
        load=LOAD,
        load_memory=read_tree(worker.pid),
        load_devices=[],
        engine=EngineFacts(vocab_size=500, context_tokens=context_tokens, options={}),
        invocation=0,
    )


# -- warm-up ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "taken", "steady"),
    [
        ([1, 1, 1, 1, 1, 1], 6, True),
        ([9, 1, 1, 1, 1, 9], 6, True),
        ([2, 2, 2, 1, 1, 1, 1, 1, 1], 9, True),
        ([3, 3, 3, 2, 2, 2, 1, 1, 1], 9, False),
    ],
    ids=["at once", "outliers", "after nine", "never"],
)
def test_warm_up_goes_on_until_two_triples_agree(
    seconds: list[float], taken: int, steady: bool
) -> None:
    samples = warm_up(one_after_another([*seconds, *[1.0] * (12 - len(seconds))]))
    assert (len(samples), is_steady(samples)) == (taken, steady)


@pytest.mark.parametrize(
    ("before", "after", "steady"),
    [(100, 102, True), (100, 102.001, False), (100, 98, True), (100, 97.999, False)],
)
def test_two_percent_is_still_steady(before: float, after: float, steady: bool) -> None:
    assert is_steady([took(before)] * 3 + [took(after)] * 3) is steady


def test_the_share_is_of_the_earlier_triple() -> None:
    assert not is_steady([took(98)] * 3 + [took(100)] * 3)


def test_less_than_two_triples_are_never_steady() -> None:
    assert not is_steady([took(1)] * 5)


# -- how many samples ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("each_s", "asked", "count"),
    [(1, 10, 10), (3.75, 10, 10), (4.0, 10, 9), (5.0, 10, 6), (1, 7, 7), (0.01, 1000, 1000)],
)
def test_as_many_samples_as_the_budget_of_60_s_affords(
    each_s: float, asked: int, count: int
) -> None:
    warmup = [took(each_s)] * 6
    assert sample_count(warmup, Plan(samples=asked)) == (count, [])


def test_five_samples_are_taken_whatever_the_budget_and_that_is_said() -> None:
    count, findings = sample_count([took(10)] * 6, Plan(samples=10))
    assert count == 5
    assert findings == [
        "workload too large for the time budget: about 110 s of 60 s, with 5 samples"
    ]


def test_the_budget_foresees_by_the_last_triple() -> None:
    cold_then_warm = [took(8)] * 3 + [took(1)] * 3
    assert sample_count(cold_then_warm, Plan(samples=50)) == (33, [])


# -- summary ---------------------------------------------------------------------------------


def test_a_steady_measurement() -> None:
    worker = Scripted(lambda request: 1.0)
    seen = measure(loaded(worker), TASK, Plan(samples=10), name="chat")
    assert (seen.name, seen.warmup_samples, seen.steady) == ("chat", 6, True)
    assert (seen.findings, seen.invalid) == ([], None)
    assert (seen.ttft.median, seen.ttft.n) == (500, 10)
    assert (seen.load.median, seen.decode_tps.median) == (2, 4)
    assert (seen.backend, seen.version, seen.workload) == ("fake", "1", TASK)


def test_the_cores_are_tried_around_every_sample_while_the_engine_stands_still() -> None:
    worker = Scripted(lambda request: 1.0)
    seen = measure(loaded(worker), TASK, Plan(samples=10))
    assert worker.stills == 11
    assert seen.conditions is not None
    assert (seen.conditions.core_time_ns is not None) is (sys.platform == "linux")


def test_warm_up_is_left_out_of_the_numbers() -> None:
    worker = Scripted(lambda request: 9.0 if request < 3 else 1.0)
    seen = measure(loaded(worker), TASK, Plan(samples=10))
    assert (seen.warmup_samples, seen.steady) == (9, True)
    assert seen.e2e.values == [1000] * 10


def test_no_two_requests_have_the_same_prompt() -> None:
    worker = Scripted(lambda request: 1.0)
    measure(loaded(worker), TASK, Plan(samples=10))
    assert worker.requests == [TASK.request(position, 500) for position in range(17)]
    assert len({tuple(each.prompts[0]) for each in worker.requests}) == 17


def test_memory_is_reset_in_a_request_that_nobody_times_and_after_the_samples() -> None:
    worker = Scripted(lambda request: 1.0)
    measure(loaded(worker), TASK, Plan(samples=5))
    assert worker.observed == ["nothing"] * 6 + ["usage"] * 5 + ["memory"]


def test_nothing_is_observed_without_watching() -> None:
    worker = Scripted(lambda request: 1.0)
    seen = measure(loaded(worker), TASK, Plan(samples=5, watch=False))
    assert worker.observed == ["nothing"] * 11
    assert (seen.memory, seen.conditions) == (None, None)
    assert seen.absent["ram"] == "memory was not watched"


def test_an_engine_that_breaks_a_rule_is_not_asked_for_its_memory() -> None:
    worker = Scripted(lambda request: 1.0, missing_from=8)
    seen = measure(loaded(worker), TASK, Plan())
    assert worker.observed == ["nothing"] * 6 + ["usage"] * 3
    assert seen.memory is not None
    assert seen.memory.unknown["decode"] == "no request was made to tell the phases apart"


def test_a_measurement_that_never_gets_steady_says_so() -> None:
    worker = Scripted(lambda request: 1.1**request)
    seen = measure(loaded(worker), TASK, Plan(samples=5))
    assert not seen.steady
    assert seen.findings == ["not steady after 9 warm-up samples"]


def test_a_measurement_too_large_for_its_budget_says_so() -> None:
    seen = measure(loaded(Scripted(lambda request: 1.0)), TASK, Plan(time_budget_s=8))
    assert seen.e2e.n == 5
    assert seen.findings == [
        "workload too large for the time budget: about 11 s of 8 s, with 5 samples"
    ]


@pytest.mark.parametrize("missing_from", [0, 8], ids=["in warm-up", "in a sample"])
def test_a_request_that_breaks_a_rule_makes_all_of_it_invalid(missing_from: int) -> None:
    worker = Scripted(lambda request: 1.0, missing_from=missing_from)
    seen = measure(loaded(worker), TASK, Plan())
    assert seen.invalid == "2 tokens generated, 3 asked for"
    assert "decode_tps" not in seen.metrics
    with pytest.raises(MetricAbsent, match=r"decode_tps was not measured: 2 tokens.* has load"):
        _ = seen.decode_tps


def test_progress_names_every_request() -> None:
    told: list[str] = []
    worker = Scripted(lambda request: 1.0)
    measure(loaded(worker), TASK, Plan(samples=5), progress=told.append)
    assert told == [
        *(f"warm-up {i}" for i in range(1, 7)),
        *(f"sample {i} of 5" for i in range(1, 6)),
        "memory by phase",
        "probes the machine",
    ]


def test_the_peak_of_the_load_is_read_once_and_kept_with_the_model() -> None:
    model = loaded(Scripted(lambda request: 1.0))
    first, second = (measure(model, TASK, Plan(samples=5)) for _ in range(2))
    assert first.memory is not None
    assert second.memory is not None
    assert first.memory.load is not None
    assert first.memory.load == second.memory.load


def test_a_workload_beyond_the_context_is_refused_with_the_numbers() -> None:
    worker = Scripted(lambda request: 1.0)
    with pytest.raises(EngineRefusal) as caught:
        measure(loaded(worker, context_tokens=102), TASK, Plan())
    assert str(caught.value) == (
        "100 prompt + 3 new tokens need a context of 103, but fake was loaded with 102: ask for "
        "fewer tokens, or load the model with a larger context (llama-cpp: n_ctx=…)"
    )
    assert worker.requests == []


def test_depth_is_part_of_what_does_not_fit() -> None:
    deep = Workload(prompt_tokens=10, new_tokens=3, depth=90)
    with pytest.raises(EngineRefusal, match=r"^90 tokens of depth \+ 10 prompt \+ 3 new .* of 103"):
        check_fits(loaded(Scripted(lambda request: 1.0), context_tokens=102), deep)


def test_a_batch_beyond_what_was_loaded_says_what_to_load() -> None:
    model = loaded(Scripted(lambda request: 1.0))
    model.engine = msgspec.structs.replace(model.engine, batch=2, batch_remedy="load with n=…")
    check_fits(model, Workload(batch=2))
    with pytest.raises(EngineRefusal, match=r"^a batch of 3 .* was loaded for 2: load with n=…$"):
        check_fits(model, Workload(batch=3))


def test_a_workload_that_just_fits_is_taken() -> None:
    check_fits(loaded(Scripted(lambda request: 1.0), context_tokens=103), TASK)


@pytest.mark.parametrize(
    "metric",
    ["ttft", "prefill_tps", "decode_tps", "itl", "tpot", "e2e", "load", "ram", "ram_anon"],
)
def test_every_metric_is_an_attribute_of_the_measurement(metric: str) -> None:
    seen = measure(loaded(Scripted(lambda request: 1.0)), TASK, Plan(samples=5))
    assert getattr(seen, metric) is seen.metrics[metric]


def test_an_absent_metric_names_those_that_are_there() -> None:
    seen = measure(loaded(Scripted(lambda request: 1.0)), TASK, Plan(samples=5))
    with pytest.raises(MetricAbsent, match=r"^vram was not measured; this .* has decode_tps, e2e"):
        seen.quantity("vram")


def test_what_is_read_before_the_clock_starts_counts_for_the_time_budget() -> None:
    deep = msgspec.structs.replace(took(1.0), whole_s=41.0)
    count, findings = sample_count([deep] * 6, Plan(samples=10))
    assert count == 5
    assert findings[0].startswith("workload too large for the time budget: about 451 s of 60 s")


def test_a_queue_may_be_longer_than_a_batch_where_the_engine_takes_one() -> None:
    model = loaded(Scripted(lambda request: 1.0))
    queue = Workload(new_tokens=64, shortest=8, batch=3)
    with pytest.raises(EngineRefusal, match=r"takes no queue of requests of 8\.\.64 tokens"):
        check_fits(model, queue)
    model.engine = msgspec.structs.replace(model.engine, batch=2, queue=True)
    check_fits(model, queue)


@pytest.mark.parametrize(
    ("source", "prompts", "told"),
    [
        ("trained:small", "random", True),
        ("trained:small", "shipped", False),
        ("synthetic:llama-15m", "shipped", True),
    ],
)
def test_where_prompts_or_weights_are_random_the_reader_is_told(
    source: str, prompts: str, told: bool
) -> None:
    model = loaded(Scripted(lambda request: 1.0), source=source)
    model.engine = msgspec.structs.replace(model.engine, random_caveats=["ask with a text"])
    task = msgspec.structs.replace(TASK, prompts=prompts)
    assert ("ask with a text" in measure(model, task, Plan(samples=5)).findings) is told


def test_the_answer_is_to_the_first_prompt_however_long_the_warm_up() -> None:
    """Two measurements whose warm-ups differ are compared by it."""
    worker = Scripted(lambda request: 1.0)
    first = generated(instants_ns=[1, 2, 3], count=3).token_ids
    real = worker.ask

    def ask(message: Generate | Tokenize, *given: Any, **named: Any) -> Generated | Tokenized:
        answer = real(message, *given, **named)
        assert isinstance(answer, Generated)
        number = len(worker.requests)
        return msgspec.structs.replace(answer, token_ids=[number] * len(first))

    worker.ask = ask  # type: ignore[method-assign]  # one answer for each request, in place of all alike
    assert measure(loaded(worker), TASK, Plan(samples=5)).answer == [1] * len(first)
