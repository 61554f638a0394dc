"""How does llama.cpp decode several tokens a step: who drafts them, and which are kept?

A draft is checked by reading it as one batch: the model's own choice after each of its tokens is
then known. What agrees is kept, and the first choice that does not, so that the tokens are those
of decoding one by one (but for rounding, which differs with the size of a batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pytest_llmperf.backends.llama_sequences import LlamaSequences
from pytest_llmperf.backends.speculation import write_acceptance

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline


class Drafter(Protocol):
    """Guesses how a sequence goes on."""

    @property
    def sequences(self) -> LlamaSequences | None:
        """Those of a model of its own."""
        ...

    def begin(self, prompt: Sequence[int], depth: int) -> None:
        """Forget everything, and read the first ``depth`` tokens."""
        ...

    def propose(self, history: Sequence[int], most: int) -> list[int]:
        """At most so many tokens that may follow."""
        ...

    def close(self) -> None:
        """Give memory back."""
        ...


class LookupDrafter:
    """Guesses that what followed the last tokens before follows again."""

    sequences = None

    def __init__(self, ngram_tokens: int) -> None:
        from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

        self._find = LlamaPromptLookupDecoding.find_candidate_pred_tokens
        self._ngram_tokens = ngram_tokens

    def begin(self, prompt: Sequence[int], depth: int) -> None:
        """Nothing is kept from one request to the next."""

    def propose(self, history: Sequence[int], most: int) -> list[int]:
        """What followed the same last tokens first; empty: they are new."""
        import numpy

        tokens = numpy.asarray(history, dtype=numpy.intc)
        found: list[int] = self._find(tokens, self._ngram_tokens, most).tolist()
        return found

    def close(self) -> None:
        """Nothing is held."""


class ModelDrafter:
    """Asks a smaller model of the same vocabulary."""

    def __init__(self, lib: Any, model: Any, context: Any, vocab_size: int) -> None:
        self._lib, self._model, self._context = lib, model, context
        self.sequences = LlamaSequences(lib, context, vocab_size)
        self._read = 0

    def begin(self, prompt: Sequence[int], depth: int) -> None:
        """Read the first ``depth`` tokens; the rest is read with the first draft."""
        self.sequences.clear()
        self._read = depth
        if depth:
            self.sequences.read([prompt], 0, depth)

    def propose(self, history: Sequence[int], most: int) -> list[int]:
        """The likeliest tokens, one after another."""
        # The last token is never a drafted one; those before it that were, were right.
        known, length = min(self._read, len(history) - 1), len(history)
        self.sequences.keep(known)
        tokens = self.sequences.read([history], known, length)
        drafted = tokens
        for position in range(length, length + most - 1):
            tokens = self.sequences.decode(tokens, position)
            drafted = drafted + tokens
        self._read = length + most - 1
        return drafted

    def close(self) -> None:
        """Free batch, context and model."""
        self.sequences.close()
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)


class Speculation:
    """Decodes one sequence with drafts of at most ``most`` tokens."""

    def __init__(self, sequences: LlamaSequences, drafter: Drafter, most: int) -> None:
        self._sequences, self.drafter, self._most = sequences, drafter, most

    def decode(
        self, prompt: Sequence[int], first: int, new_tokens: int, timeline: Timeline
    ) -> None:
        """Go on after the ``first`` generated token, until there are ``new_tokens``."""
        history = [*prompt, first]
        end = len(prompt) + new_tokens
        steps, drafted = 1, 0
        while len(history) < end:
            most = min(self._most, end - len(history) - 1)
            draft = self.drafter.propose(history, most) if most else []
            last = len(history) - 1
            choices = self._sequences.check([history[-1], *draft], last)
            new = choices[: 1 + agreeing(draft, choices)]
            timeline.chunk(new)
            history += new
            self._sequences.keep(len(history) - 1)
            steps += 1
            drafted += len(draft)
        write_acceptance(new_tokens, steps, drafted)


def agreeing(draft: Sequence[int], choices: Sequence[int]) -> int:
    """How many tokens of a draft are those that the model chose in their place."""
    for place, (guess, choice) in enumerate(zip(draft, choices, strict=False)):
        if guess != choice:
            return place
    return len(draft)
