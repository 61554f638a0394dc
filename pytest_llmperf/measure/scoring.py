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

from pytest_llmperf.backends import TextTokens
from pytest_llmperf.measure.quality import Quality, Window, look_at
from pytest_llmperf.measure.quantity import Quantity
from pytest_llmperf.texts import MEASURED
from pytest_llmperf.worker.errors import WorkerGarbled
from pytest_llmperf.worker.messages import Score, Scored, Tokenize, Tokenized
from pytest_llmperf.worker.pool import LoadedModel

if TYPE_CHECKING:
    from pytest_llmperf.measure.quality import Logits

SHIPPED = "shipped"
"""The name of the text that everybody has."""
WINDOW_TOKENS = 512
WINDOWS = 8


class BadText(Exception):
    """A text cannot be read, or is too short; the message says which and what to do."""


@dataclass(frozen=True)
class Passage:
    """What of a text is read."""

    name: str
    windows: tuple[tuple[int, ...], ...]

    @property
    def digest(self) -> str:
        """The same for the same windows."""
        return hashlib.sha256(repr(self.windows).encode()).hexdigest()[:16]

    @property
    def first(self) -> int:
        """Where scoring begins in each window."""
        return len(self.windows[0]) // 2


def find_text(named: str) -> Path:
    """The shipped text, or a file of the user's. Raises BadText."""
    path = MEASURED if named == SHIPPED else Path(named).expanduser()
    if not path.is_file():
        raise BadText(f"text={named!r}: no such file; {SHIPPED!r} is the one that comes with us")
    return path


def read_passage(
    model: LoadedModel, path: Path, timeout_s: float, length: int | None = None
) -> Passage:
    """Windows of ``length`` tokens of this model, 512 without. Raises BadText, WorkerError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadText(f"text {path}: {error}") from None
    tokens = _tokens(model, text, timeout_s)
    ids = tokens.ids
    length = length or _window_tokens(model)
    count = min(WINDOWS, len(ids) // length)
    if not count:
        raise BadText(f"text {path} has {len(ids)} tokens; one window takes {length}")
    windows = [ids[begin : begin + length] for begin in range(0, count * length, length)]
    if tokens.begin is not None:  # as llama-perplexity does: in the place of the first
        windows = [[tokens.begin, *window[1:]] for window in windows]
    return Passage(path.name, tuple(map(tuple, windows)))


def _window_tokens(model: LoadedModel) -> int:
    """No more than the model was made for, whatever context it was loaded with."""
    made_for = model.files.context_length if model.files is not None else None
    return min(WINDOW_TOKENS, model.engine.context_tokens, made_for or WINDOW_TOKENS)


def _tokens(model: LoadedModel, text: str, timeout_s: float) -> TextTokens:
    answer = model.worker.ask(Tokenize(text=text), timeout_s, purpose="makes tokens of a text")
    if not isinstance(answer, Tokenized):
        raise WorkerGarbled(f"the worker answered Tokenize with {type(answer).__name__}")
    return answer.tokens


def read_window(
    model: LoadedModel,
    passage: Passage,
    number: int,
    timeout_s: float,
    reference: LoadedModel | None,
) -> Window:
    """What one window tells. Raises WorkerError, NoDistribution.

    Of two vocabularies the longer one is cut: what it has more is padding, since both make the same
    tokens.
    """
    sizes = [each.engine.vocab_size for each in (model, reference) if each is not None]
    with tempfile.TemporaryDirectory(prefix="llmperf-logits-") as folder:
        ours = _logits(model, passage, number, Path(folder) / "ours", timeout_s)
        theirs = None
        if reference is not None:
            theirs = _logits(reference, passage, number, Path(folder) / "theirs", timeout_s)
        # What follows the last position lies outside of the window.
        following = passage.windows[number][passage.first + 1 :]
        both = [None if each is None else each[:-1, : min(sizes)] for each in (ours, theirs)]
        assert both[0] is not None
        return look_at(both[0], following, both[1])


def _logits(
    model: LoadedModel, passage: Passage, number: int, path: Path, timeout_s: float
) -> Logits:
    """Of the scored positions, (positions, vocabulary)."""
    import numpy as np

    message = Score(token_ids=list(passage.windows[number]), first=passage.first, path=str(path))
    answer = model.worker.ask(message, timeout_s, purpose="reads a text")
    if not isinstance(answer, Scored):
        raise WorkerGarbled(f"the worker answered Score with {type(answer).__name__}")
    return np.memmap(path, np.float32, "r", shape=(answer.rows, answer.columns))


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
