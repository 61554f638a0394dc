"""Which logits does llama.cpp give after every token of a sequence?

In a context of its own, made when it is first asked for: only one that is told so keeps more than
the last token's logits. All options that change what is computed are those of the engine.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_llmperf.backends.llama_context import make_context

if TYPE_CHECKING:
    from pytest_llmperf.backends.llama_cpp import LlamaCppOptions


class LlamaScores:
    """One sequence at a time, whole."""

    def __init__(
        self, lib: Any, model: Any, options: LlamaCppOptions, vocab_size: int, most_tokens: int
    ) -> None:
        """For sequences of at most ``most_tokens``. Raises EngineRefused."""
        self._lib, self._vocab_size = lib, vocab_size
        self._step_tokens = min(options.n_batch, most_tokens)
        one = msgspec.structs.replace(
            options, n_ctx=most_tokens, n_seq_max=1, n_batch=self._step_tokens
        )
        self._context = make_context(lib, model, one, self._step_tokens - 1)
        self._batch = lib.llama_batch_init(self._step_tokens, 0, 1)

    def logits(self, tokens: list[int]) -> Any:
        """Float32, (tokens, vocabulary). Raises RuntimeError."""
        import numpy  # llama_cpp has imported it already

        lib, rows = self._lib, numpy.empty((len(tokens), self._vocab_size), numpy.float32)
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        for begin in range(0, len(tokens), self._step_tokens):
            count = self._fill(tokens, begin)
            status = lib.llama_decode(self._context, self._batch)
            if status != 0:
                raise RuntimeError(f"llama_decode failed with status {status}")
            seen = lib.llama_get_logits(self._context)
            shape = (count, self._vocab_size)
            rows[begin : begin + count] = numpy.ctypeslib.as_array(seen, shape)
        return rows

    def _fill(self, tokens: list[int], begin: int) -> int:
        """Put the next tokens into the batch; how many."""
        batch, piece = self._batch, tokens[begin : begin + self._step_tokens]
        for index, token in enumerate(piece):
            batch.token[index] = token
            batch.pos[index] = begin + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = True
        batch.n_tokens = len(piece)
        return len(piece)

    def close(self) -> None:
        """Free batch and context."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)


def tokenize(lib: Any, model: Any, text: str) -> list[int]:
    """Token ids of a text, none of them added."""
    written = text.encode()
    most = len(written) + 1
    ids = (ctypes.c_int32 * most)()
    vocab = lib.llama_model_get_vocab(model)
    count = lib.llama_tokenize(vocab, written, len(written), ids, most, False, False)
    if count < 0:
        raise RuntimeError(f"llama_tokenize wants room for {-count} tokens of {most} bytes")
    return list(ids[:count])
