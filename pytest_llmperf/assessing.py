"""How does a test's model read a text, beside a reference that is loaded for it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.quality import NoDistribution, summarize_quality
from pytest_llmperf.measure.scoring import (
    Passage,
    find_text,
    quantities,
    read_passage,
    read_window,
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
    reference: LoadedModel | None,
    measurement: Measurement,
    text: str,
    timeout_s: float,
    say: Say,
) -> Measurement:
    """The measurement with what a text told. Raises BadText, WorkerError.

    Logits that are no distribution make it INVALID.
    """
    passage = read_passage(model, find_text(text), timeout_s)
    model.has_read = True
    if reference is not None:
        _require_same_tokens(model, reference, passage, find_text(text), timeout_s)
    windows = []
    try:
        for number in range(len(passage.windows)):
            say(f"reads window {number + 1} of {len(passage.windows)}")
            windows.append(read_window(model, passage, number, timeout_s, reference))
    except NoDistribution as error:
        return msgspec.structs.replace(measurement, invalid=f"on {passage.name}: {error}")
    found = summarize_quality(windows, passage.digest)
    metrics = {**measurement.metrics, **quantities(found, passage.name)}
    return msgspec.structs.replace(measurement, metrics=metrics, quality=found)


def _require_same_tokens(
    model: LoadedModel, reference: LoadedModel, passage: Passage, text: Path, timeout_s: float
) -> None:
    """Distributions over different vocabularies cannot be compared. Raises EngineRefusal."""
    length = len(passage.windows[0])
    if reference.engine.context_tokens < length:
        raise EngineRefusal(
            f"the reference's context holds {reference.engine.context_tokens} tokens, a window of "
            f"text {length}: load it with a larger one"
        )
    theirs = read_passage(reference, text, timeout_s, length)
    if theirs.windows != passage.windows:
        raise EngineRefusal(
            f"{model.loading.spec.source} and the reference {reference.loading.spec.source} make "
            f"different tokens of {passage.name}: they have to share a vocabulary"
        )
