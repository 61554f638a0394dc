"""Which logits does llama.cpp give after every token of a sequence?

In a context of its own, made for the sequence: only one that is told so keeps more than the last
token's logits. All options that change what is computed are those of the engine.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_llmperf.backends.llama_context import make_context
from pytest_llmperf.backends.protocol import TextTokens

if TYPE_CHECKING:
    from pytest_llmperf.backends.llama_cpp import LlamaCppOptions


def logits_of(
    lib: Any, model: Any, options: LlamaCppOptions, vocab_size: int, tokens: list[int]
) -> Any:
    """Float32, (tokens, vocabulary). Raises EngineRefused, RuntimeError."""
    import numpy  # llama_cpp has imported it already

    step_tokens = min(options.n_batch, len(tokens))
    one = msgspec.structs.replace(options, n_ctx=len(tokens), n_seq_max=1, n_batch=step_tokens)
    context = make_context(lib, model, one, step_tokens - 1)
    batch = lib.llama_batch_init(step_tokens, 0, 1)
    rows = numpy.empty((len(tokens), vocab_size), numpy.float32)
    try:
        for begin in range(0, len(tokens), step_tokens):
            count = _fill(batch, tokens, begin, step_tokens)
            status = lib.llama_decode(context, batch)
            if status != 0:
                raise RuntimeError(f"llama_decode failed with status {status}")
            seen = lib.llama_get_logits(context)
            rows[begin : begin + count] = numpy.ctypeslib.as_array(seen, (count, vocab_size))
    finally:
        lib.llama_batch_free(batch)
        lib.llama_free(context)
    return rows


def _fill(batch: Any, tokens: list[int], begin: int, most: int) -> int:
    """Put the next tokens into the batch; how many."""
    piece = tokens[begin : begin + most]
    for index, token in enumerate(piece):
        batch.token[index] = token
        batch.pos[index] = begin + index
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = 0
        batch.logits[index] = True
    batch.n_tokens = len(piece)
    return len(piece)


def tokenize(lib: Any, model: Any, text: str) -> TextTokens:
    """Token ids of a text, and what the model wants before them."""
    written = text.encode()
    most = len(written) + 1
    ids = (ctypes.c_int32 * most)()
    vocab = lib.llama_model_get_vocab(model)
    count = lib.llama_tokenize(vocab, written, len(written), ids, most, False, False)
    if count < 0:
        raise RuntimeError(f"llama_tokenize wants room for {-count} tokens of {most} bytes")
    wants_begin = bool(lib.llama_vocab_get_add_bos(vocab))
    begin = int(lib.llama_vocab_bos(vocab)) if wants_begin else None
    return TextTokens(ids=list(ids[:count]), begin=begin)
