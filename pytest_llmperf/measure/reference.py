"""With what is a model's reading of a text compared: a loaded model, or what one once said?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_llmperf.measure.scoring import (
    Passage,
    read_logits,
    read_passage,
    require_one_vocabulary,
)
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel

if TYPE_CHECKING:
    from pytest_llmperf.measure.quality import Logits


class Reference(Protocol):
    """What gives the distributions that a model's are compared with."""

    @property
    def title(self) -> str:
        """Which model it is, in words."""
        ...

    @property
    def vocab_size(self) -> int:
        """Columns of its logits."""
        ...

    @property
    def window_tokens(self) -> int | None:
        """How long the windows have to be; None: as it suits the model that is judged."""
        ...

    def require_same_tokens(self, model: LoadedModel, passage: Passage) -> None:
        """Distributions over different vocabularies cannot be compared. Raises EngineRefusal."""
        ...

    def logits(self, passage: Passage, number: int) -> Logits:
        """Of the scored positions of one window, (positions, vocabulary).

        Raises WorkerError, BadReference.
        """
        ...


@dataclass(frozen=True)
class LoadedReference:
    """A model in a worker, which reads beside the one that is judged."""

    model: LoadedModel
    text: Path
    timeout_s: float

    @property
    def title(self) -> str:
        """As :class:`Reference`."""
        return self.model.loading.title

    @property
    def vocab_size(self) -> int:
        """As :class:`Reference`."""
        return self.model.engine.vocab_size

    @property
    def window_tokens(self) -> int | None:
        """As :class:`Reference`."""
        return None

    def require_same_tokens(self, model: LoadedModel, passage: Passage) -> None:
        """As :class:`Reference`."""
        require_one_vocabulary(model, self.vocab_size, f"the reference {self.title}")
        length, context = len(passage.windows[0]), self.model.engine.readable_tokens
        if context < length:
            raise EngineRefusal(
                f"the reference's context holds {context} tokens, a window of text {length}: "
                "load it with a larger one"
            )
        theirs = read_passage(self.model, self.text, self.timeout_s, length)
        if theirs.windows != passage.windows:
            raise EngineRefusal(
                f"{model.loading.spec.source} and the reference {self.model.loading.spec.source} "
                f"make different tokens of {passage.name}: they have to share a vocabulary"
            )

    def logits(self, passage: Passage, number: int) -> Logits:
        """As :class:`Reference`."""
        return read_logits(self.model, passage, number, self.timeout_s)
