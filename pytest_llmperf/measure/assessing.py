"""How does a model that was timed read a text, and what becomes of its measurement?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pytest_llmperf.measure.measurement import Measurement
from pytest_llmperf.measure.quality import NoDistribution, summarize_quality
from pytest_llmperf.measure.reading import TextRequest, find_text
from pytest_llmperf.measure.reference import Reference
from pytest_llmperf.measure.scoring import quantities, read_passage, read_window, require_room
from pytest_llmperf.models.spec import SYNTHETIC
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel

Say = Callable[[str], None]


def assess(
    model: LoadedModel,
    reference: Reference | None,
    measurement: Measurement,
    text: TextRequest,
    timeout_s: float,
    say: Say,
) -> Measurement:
    """The measurement with what a text told. Raises BadText, BadReference, WorkerError.

    Logits that are no distribution make it INVALID.
    """
    length = _window_tokens(model, reference, text.window_tokens)
    passage = read_passage(model, find_text(text.name), timeout_s, length)
    model.has_read = True
    if reference is not None:
        reference.require_same_tokens(model, passage)
    beside = "" if reference is None else reference.title
    windows = []
    try:
        for number in range(len(passage.windows)):
            say(f"reads window {number + 1} of {len(passage.windows)}")
            windows.append(read_window(model, passage, number, timeout_s, reference))
        found = summarize_quality(windows, passage.digest, beside)
    except NoDistribution as error:
        return msgspec.structs.replace(measurement, invalid=f"on {passage.name}: {error}")
    found = msgspec.structs.replace(found, tokens_per_character=passage.tokens_per_character)
    metrics = {**measurement.metrics, **quantities(found, passage.name)}
    absent = dict(measurement.absent)
    if reference is not None and found.kl_divergence is None:
        absent["kl_divergence"] = (
            f"{model.backend} tells log-probabilities of tokens, no distribution"
        )
    findings = [*measurement.findings, *_of_noise(model)]
    return msgspec.structs.replace(
        measurement, metrics=metrics, quality=found, absent=absent, findings=findings
    )


def _of_noise(model: LoadedModel) -> list[str]:
    """What the reader should know where nobody trained the model."""
    if not model.loading.spec.source.startswith(SYNTHETIC):
        return []
    return ["perplexity is not testable on random weights: it says nothing of output quality"]


def _window_tokens(
    model: LoadedModel, reference: Reference | None, asked: int | None
) -> int | None:
    """What is asked for, or what a reference was stored in. Raises EngineRefusal."""
    stored = None if reference is None else reference.window_tokens
    if stored is not None and asked not in {None, stored}:
        raise EngineRefusal(
            f"the reference was stored in windows of {stored} tokens, and window_tokens={asked}: "
            "leave that out, or store the reference anew with --window-tokens"
        )
    whose = "the reference was stored in windows" if stored else "windows are asked for"
    length = stored or asked
    require_room(model, length, whose)
    return length
