"""How does a loaded model read a text, window by window, and how well?

Of each window the second half is scored, so that every position has something to follow from;
llama-perplexity does the same. Logits come through a file: they are larger than any message.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.backends import LogProbs
from pytest_llmperf.measure.quality import Quality, Window, look_at, look_at_log_probs
from pytest_llmperf.measure.quantity import Quantity
from pytest_llmperf.measure.reading import BadText, read_text, tokens_of
from pytest_llmperf.worker.errors import EngineRefusal, WorkerGarbled
from pytest_llmperf.worker.messages import Score, Scored
from pytest_llmperf.worker.pool import LoadedModel

if TYPE_CHECKING:
    from pytest_llmperf.measure.quality import Logits
    from pytest_llmperf.measure.reference import Reference

WINDOW_TOKENS = 512
WINDOWS = 8
_LEAST_WINDOWS = 2
"""Of one there is no standard error."""
_PADDING = 0.05
"""Two vocabularies whose sizes differ by more are not the same one, padded."""


@dataclass(frozen=True)
class Passage:
    """What of a text is read."""

    name: str
    windows: tuple[tuple[int, ...], ...]
    tokens_per_character: float
    """Of the whole text."""

    @property
    def digest(self) -> str:
        """The same for the same windows."""
        return hashlib.sha256(repr(self.windows).encode()).hexdigest()[:16]

    @property
    def first(self) -> int:
        """Where scoring begins in each window."""
        return len(self.windows[0]) // 2


def read_passage(
    model: LoadedModel, path: Path, timeout_s: float, length: int | None = None
) -> Passage:
    """Windows of ``length`` tokens of this model, 512 without. Raises BadText, WorkerError.

    Longer ones are fewer, so that about the same beginning of the text is read.
    """
    text = read_text(path)
    tokens = tokens_of(model, text, timeout_s)
    ids = tokens.ids
    length = length or _window_tokens(model)
    count = min(WINDOWS, max(_LEAST_WINDOWS, WINDOWS * WINDOW_TOKENS // length), len(ids) // length)
    if not count:
        raise BadText(f"text {path} has {len(ids)} tokens; one window takes {length}")
    windows = [ids[begin : begin + length] for begin in range(0, count * length, length)]
    if tokens.begin is not None:  # as llama-perplexity does: in the place of the first
        windows = [[tokens.begin, *window[1:]] for window in windows]
    return Passage(path.name, tuple(map(tuple, windows)), len(ids) / len(text))


def require_one_vocabulary(model: LoadedModel, vocab_size: int, whose: str) -> None:
    """``whose``: the reference that has so many tokens. Raises EngineRefusal."""
    ours = model.engine.vocab_size
    if abs(ours - vocab_size) > _PADDING * max(ours, vocab_size):
        raise EngineRefusal(
            f"{whose} is of a vocabulary of {vocab_size} tokens, that of "
            f"{model.loading.spec.source} has {ours}: they have to share one"
        )


def require_room(model: LoadedModel, length: int | None, whose: str) -> None:
    """Raises EngineRefusal where the model's context does not hold a window."""
    room = model.engine.readable_tokens
    if length is not None and length > room:
        raise EngineRefusal(
            f"{whose} of {length} tokens, the model's context holds {room}: load it with a "
            "larger one"
        )


def _window_tokens(model: LoadedModel) -> int:
    """No more than the model was made for, whatever context it was loaded with."""
    made_for = model.files.context_length if model.files is not None else None
    return min(WINDOW_TOKENS, model.engine.readable_tokens, made_for or WINDOW_TOKENS)


def read_window(
    model: LoadedModel,
    passage: Passage,
    number: int,
    timeout_s: float,
    reference: Reference | None,
) -> Window:
    """What one window tells. Raises WorkerError, BadReference, NoDistribution."""
    beside = None
    if reference is not None:
        beside = reference.logits(passage, number)[:-1, : reference.vocab_size]
    ours = _read(model, passage, number, timeout_s)
    # What follows the last position lies outside of the window.
    following = passage.windows[number][passage.first + 1 :]
    if isinstance(ours, LogProbs):
        return look_at_log_probs(ours.told, ours.likeliest, following, beside)
    return look_at(ours[:-1, : model.engine.vocab_size], following, beside)


def read_logits(model: LoadedModel, passage: Passage, number: int, timeout_s: float) -> Logits:
    """Of the scored positions, (positions, vocabulary). Raises WorkerError.

    EngineRefusal for an engine that tells less.
    """
    said = _read(model, passage, number, timeout_s)
    if isinstance(said, LogProbs):
        raise EngineRefusal(
            f"{model.backend} tells the log-probability of each token of a text and no "
            "distribution, which a reference has to give: take llama-cpp, transformers or "
            "onnxruntime for it"
        )
    return said


def _read(model: LoadedModel, passage: Passage, number: int, timeout_s: float) -> Logits | LogProbs:
    """What the engine says of the scored positions. Raises WorkerError."""
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="llmperf-logits-") as folder:
        path = Path(folder) / "logits"
        message = Score(
            token_ids=list(passage.windows[number]), first=passage.first, path=str(path)
        )
        answer = model.worker.ask(message, timeout_s, purpose="reads a text")
        if not isinstance(answer, Scored):
            raise WorkerGarbled(f"the worker answered Score with {type(answer).__name__}")
        if answer.log_probs is not None:
            return answer.log_probs
        return np.fromfile(path, np.float32).reshape(answer.rows, answer.columns)


def quantities(quality: Quality, text: str) -> dict[str, Quantity]:
    """As metrics; ``low`` and ``high`` are a standard error to both sides."""
    estimates = {
        "perplexity": ("", quality.perplexity),
        "kl_divergence": ("nats", quality.kl_divergence),
        "top1_agreement": ("", quality.top1_agreement),
    }
    where = f"{quality.positions} positions in {quality.windows} windows of {text}"
    found = {}
    for name, (unit, each) in estimates.items():
        if each is None:
            continue
        error = each.error or 0.0
        told = "" if each.error is None else f", ± {each.error:.2g} (standard error)"
        found[name] = Quantity(
            unit=unit,
            median=each.value,
            low=each.value - error,
            high=each.value + error,
            n=quality.positions,
            percentiles={},
            how=f"mean of {where}{told}",
            error=each.error,
        )
    return found
