"""What do batches bring here, and does continuous batching beat static batching?

A step reads the weights once for all its sequences. So a batch gives more tokens a second, and
each sequence gets its own no sooner. *Static* batching holds that batch until its longest request
is done; *continuous* batching lets the next one in as soon as one has ended, which pays where
lengths differ. *Dynamic* batching, a server that waits some milliseconds for requests to put
together, is about arrivals: all of a queue arrive at once here, so it is skipped.
"""

from collections.abc import Callable
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.hardware import Hardware
from pytest_llmperf.measure import Measurement

from .conftest import Model

SLOTS, REQUESTS, LENGTHS = 4, 8, (1, 16)
BATCHES = (1, 2, 4, 8)
CONTINUOUS: dict[str, Any] = {
    "batching": "continuous",
    "max_requests_per_batch": SLOTS,
    "page_size": 16,
    "num_blocks": 4 * SLOTS,  # twice what four requests fill: above 85 % no further one is let in
    "max_batch_tokens": 64,
}


@pytest.mark.claim("throughput and latency by the batch, and its knee: llama.cpp")
@perf(samples=5)
@pytest.mark.parametrize("batch", BATCHES)
def test_so_many_sequences(
    load_model: LoadModel,
    measure: Measure,
    gguf: Model,
    batch: int,
    record_property: Callable[[str, object], None],
) -> None:
    model = load_model(**gguf, backend="llama-cpp", n_seq_max=max(BATCHES), n_ctx=512)
    seen = measure(model, prompt_tokens=8, new_tokens=8, batch=batch)
    record_property("tok/s", f"{seen.decode_tps.median:.0f}")
    record_property("ms a token of each", f"{seen.itl.median:.1f}")
    assert seen.workload.batch == batch
    assert seen.decode_tps.median == pytest.approx(batch * 1e3 / seen.tpot.median, rel=0.15)


@pytest.mark.quick
@pytest.mark.claim("eight in a batch bring more tokens than one, and none sooner: llama.cpp")
@perf(samples=5)
def test_a_batch_brings_more_tokens_and_none_sooner(
    load_model: LoadModel, measure: Measure, gguf: Model
) -> None:
    model = load_model(**gguf, backend="llama-cpp", n_seq_max=8, n_ctx=512)
    alone, eight = (
        measure(model, prompt_tokens=8, new_tokens=8, batch=batch, name=f"batch {batch}")
        for batch in (1, 8)
    )
    assert eight.decode_tps.median > 1.3 * alone.decode_tps.median
    assert eight.itl.median > 0.95 * alone.itl.median


@pytest.mark.claim("throughput grows with the batch: transformers")
@perf(samples=5)
def test_four_in_a_batch_bring_half_as_much_again(
    load_model: LoadModel, measure: Measure, folder: Model
) -> None:
    model = load_model(**folder, backend="transformers")
    alone = measure(model, prompt_tokens=8, new_tokens=8, name="alone")
    together = measure(model, prompt_tokens=8, new_tokens=8, batch=4, name="batch 4")
    assert together.decode_tps.median > 1.5 * alone.decode_tps.median


@pytest.mark.claim("continuous batching takes fewer steps than static on mixed lengths")
@perf(samples=5)
def test_no_place_stays_empty(
    load_model: LoadModel,
    measure: Measure,
    trained_folder: Model,
    record_property: Callable[[str, object], None],
) -> None:
    """Counted, so it is the same on every machine. What it saves in time is told, not asserted."""
    waiting, filled = in_two_ways(load_model, measure, trained_folder)
    tokens = [f"{each.step_tokens.median:.2f}" for each in (filled, waiting)]
    record_property("tokens a step", " against ".join(tokens))
    record_property("time of static ÷ continuous", f"{best_ms(waiting) / best_ms(filled):.2f}")
    assert filled.step_tokens.median > 1.25 * waiting.step_tokens.median


@pytest.mark.claim("continuous batching is faster on mixed lengths: transformers, one thread")
@perf(samples=5)
def test_on_one_thread_it_is_faster(
    load_model: LoadModel,
    measure: Measure,
    folder: Model,
    hardware: Hardware,
    record_property: Callable[[str, object], None],
) -> None:
    """On more, a step's serial part may take back what fewer steps save."""
    if hardware.accelerators:
        pytest.skip("a GPU has no threads to choose: its steps are those of the test above")
    waiting, filled = in_two_ways(load_model, measure, folder, num_threads=1)
    record_property("time of static ÷ continuous", f"{best_ms(waiting) / best_ms(filled):.2f}")
    assert best_ms(filled) < best_ms(waiting) / 1.05


@pytest.mark.claim("dynamic batching puts together what arrives within milliseconds")
def test_what_arrives_is_put_together() -> None:
    pytest.skip("not testable here: requests of a queue arrive at once, with no time between them")


def in_two_ways(
    load_model: LoadModel, measure: Measure, folder: Model, **options: Any
) -> tuple[Measurement, Measurement]:
    """One queue, statically and continuously, with as many places."""
    asked: dict[str, Any] = {"prompt_tokens": 8, "new_tokens": LENGTHS, "batch": REQUESTS}
    waiting = load_model(**folder, backend="transformers", static_batch=SLOTS, **options)
    static = measure(waiting, **asked, name="static")
    filled = load_model(**folder, backend="transformers", **CONTINUOUS, **options)
    return static, measure(filled, **asked, name="continuous")


def best_ms(seen: Measurement) -> float:
    """The fastest of five: others on the machine only ever slow one."""
    return min(seen.e2e.values or [])
