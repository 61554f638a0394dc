"""Which text is meant, and which tokens does a loaded model make of it?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.backends import TextTokens
from pytest_llmperf.texts import MEASURED
from pytest_llmperf.worker.errors import WorkerGarbled
from pytest_llmperf.worker.messages import Tokenize, Tokenized
from pytest_llmperf.worker.pool import LoadedModel

SHIPPED = "shipped"
"""The name of the text that everybody has."""

LEAST_WINDOW = 4
"""Of the second half one token is scored by the one that follows it."""


class BadText(Exception):
    """A text cannot be read, or is too short; the message says which and what to do."""


@dataclass(frozen=True)
class TextRequest:
    """Which text is read, and how much of it at once."""

    name: str
    """``shipped``, or a file."""
    window_tokens: int | None = None
    """None: 512, or what the model was made for if that is less."""

    def __post_init__(self) -> None:
        """Raises ValueError."""
        length: object = self.window_tokens  # as a test wrote it
        if length is None:
            return
        if not isinstance(length, int) or isinstance(length, bool) or length < LEAST_WINDOW:
            raise ValueError(
                f"window_tokens must be a whole number of at least {LEAST_WINDOW}, not {length!r}"
            )


def find_text(named: str) -> Path:
    """The shipped text, or a file of the user's. Raises BadText."""
    path = MEASURED if named == SHIPPED else Path(named).expanduser()
    if not path.is_file():
        raise BadText(f"text {named!r}: no such file; {SHIPPED!r} is the one that comes with us")
    return path


def read_text(path: Path) -> str:
    """Raises BadText."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadText(f"text {path}: {error}") from None


def tokens_of(model: LoadedModel, text: str, timeout_s: float) -> TextTokens:
    """As this model reads it. Raises WorkerError."""
    answer = model.worker.ask(Tokenize(text=text), timeout_s, purpose="makes tokens of a text")
    if not isinstance(answer, Tokenized):
        raise WorkerGarbled(f"the worker answered Tokenize with {type(answer).__name__}")
    return answer.tokens
