"""How does a test's model read a text, beside a reference that is loaded for it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.scoring import (
    Passage,
    find_text,
    judge_text,
    quantities,
    read_passage,
    scores,
)
from pytest_llmperf.wish import Wish
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel

Say = Callable[[str], None]


@dataclass(frozen=True)
class Reading:
    """What of output quality a measurement is to tell."""

    text: str
    """``shipped``, or a file."""
    against: Wish | None = None
    """The reference; None: perplexity alone."""


def assess(
    model: LoadedModel,
    measurement: Measurement,
    reading: Reading,
    load: Callable[[Wish], LoadedModel],
    timeout_s: float,
    say: Say,
) -> Measurement:
    """The measurement with what a text told. Raises BadText, WorkerError, and what ``load`` does.

    Logits that are no distribution make it INVALID.
    """
    passage = read_passage(model, find_text(reading.text), timeout_s)
    with scores(model, passage, timeout_s, say) as ours:
        try:
            if reading.against is None:
                found = judge_text(passage, ours)
            else:
                reference = load(reading.against)
                _require_same_tokens(model, reference, passage, reading, timeout_s)
                with scores(reference, passage, timeout_s, say) as theirs:
                    found = judge_text(passage, ours, theirs)
        except ValueError as error:
            return msgspec.structs.replace(measurement, invalid=f"on {passage.name}: {error}")
    metrics = {**measurement.metrics, **quantities(found, passage.name)}
    return msgspec.structs.replace(measurement, metrics=metrics, quality=found)


def _require_same_tokens(
    model: LoadedModel,
    reference: LoadedModel,
    passage: Passage,
    reading: Reading,
    timeout_s: float,
) -> None:
    """Distributions over different vocabularies cannot be compared. Raises EngineRefusal."""
    length = len(passage.windows[0])
    if reference.engine.context_tokens < length:
        raise EngineRefusal(
            f"the reference's context holds {reference.engine.context_tokens} tokens, a window of "
            f"text {length}: load it with a larger one"
        )
    theirs = read_passage(reference, find_text(reading.text), timeout_s, length)
    if theirs.windows != passage.windows:
        raise EngineRefusal(
            f"{model.loading.spec.source} and the reference {reference.loading.spec.source} make "
            f"different tokens of {passage.name}: they have to share a vocabulary"
        )
