"""How are prompts read and tokens decoded through llama.cpp's C interface?

The loop is the one of llama.cpp's own tools: decode, take the likeliest token, feed it back. The
token is the logits' argmax by numpy: llama.cpp's sampler copies all candidates first, 40 to 50 µs
for a vocabulary of 32,000, which is 5 % of a small model's step. The binding's generator is not
slower where its settings match (benchmarks/decode_loop.py), but it reuses a common prefix of the
last prompt and hides where a token's time is taken.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from pytest_llmperf.backends.protocol import EngineTimings


class LlamaSequences:
    """The sequences of one llama.cpp context: its batch, its sampler, and how far each has got."""

    def __init__(self, lib: Any, context: Any, vocab_size: int) -> None:
        self._lib, self._context, self._vocab_size = lib, context, vocab_size
        self._views: dict[int, Any] = {}
        self._step_tokens = int(lib.llama_n_batch(context))
        self._batch = lib.llama_batch_init(self._step_tokens, 0, 1)
        for i in range(self._step_tokens):
            self._batch.n_seq_id[i] = 1

    def clear(self) -> None:
        """Forget everything that was read."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), False)

    def read(self, prompts: Sequence[Sequence[int]], begin: int, end: int) -> list[int]:
        """Read positions ``begin`` to ``end`` of every prompt; the token that follows each."""
        batch, tokens = self._batch, []
        filled = 0
        waiting: list[int] = []
        for sequence, prompt in enumerate(prompts):
            for position in range(begin, end):
                self._put(filled, prompt[position], position, sequence)
                is_last = position == end - 1
                batch.logits[filled] = is_last
                if is_last:
                    waiting.append(filled)
                filled += 1
                if filled == self._step_tokens or (is_last and sequence == len(prompts) - 1):
                    tokens += self._decode(filled, waiting)
                    filled, waiting = 0, []
        return tokens

    def decode(self, tokens: Sequence[int], position: int) -> list[int]:
        """Feed one token of each sequence at ``position``; the token that follows each."""
        batch = self._batch
        count = len(tokens)
        for sequence in range(count):
            self._put(sequence, tokens[sequence], position, sequence)
            batch.logits[sequence] = True
        return self._decode(count, range(count))

    def check(self, tokens: Sequence[int], position: int) -> list[int]:
        """Feed several tokens of the only sequence from ``position`` on; what follows each."""
        for index, token in enumerate(tokens):
            self._put(index, token, position + index, 0)
            self._batch.logits[index] = True
        return self._decode(len(tokens), range(len(tokens)))

    def keep(self, end: int) -> None:
        """Forget what the only sequence has from position ``end`` on. Raises RuntimeError."""
        memory = self._lib.llama_get_memory(self._context)
        if not self._lib.llama_memory_seq_rm(memory, 0, end, -1):
            raise RuntimeError(f"llama.cpp cannot take back the tokens from position {end} on")

    def _put(self, index: int, token: int, position: int, sequence: int) -> None:
        batch = self._batch
        batch.token[index] = token
        batch.pos[index] = position
        batch.seq_id[index][0] = sequence

    def _decode(self, count: int, outputs: Sequence[int]) -> list[int]:
        self._batch.n_tokens = count
        status = self._lib.llama_decode(self._context, self._batch)
        if status != 0:
            raise RuntimeError(f"llama_decode failed with status {status}")
        return [self._likeliest(output) for output in outputs]

    def _likeliest(self, output: int) -> int:
        """The token with the largest logit; waits until the logits are there."""
        logits = self._lib.llama_get_logits_ith(self._context, output)
        address = ctypes.addressof(logits.contents)
        view = self._views.get(address)
        if view is None:  # llama.cpp keeps the logits in one place as long as it is large enough
            import numpy  # llama_cpp has imported it already

            view = numpy.ctypeslib.as_array(logits, (self._vocab_size,))
            self._views[address] = view
        return int(view.argmax())

    def settle(self) -> None:
        """Wait until the device has done everything, and start llama.cpp's own clocks anew."""
        self._lib.llama_synchronize(self._context)
        self._lib.llama_perf_context_reset(self._context)

    def timings(self, prompt_tokens: int) -> EngineTimings:
        """llama.cpp's own clocks since ``settle``.

        It counts every call of more than one token as prompt, so that the phases of a batch
        cannot be told apart, nor those of a prompt whose last part is a single token. Choosing
        the token is not in its times.
        """
        seen = self._lib.llama_perf_context(self._context)
        prefill_ms, decode_ms = seen.t_p_eval_ms, seen.t_eval_ms
        # Of a single token it says "at least one", whether it saw a prompt or not.
        told_apart = prompt_tokens > 1 and seen.n_p_eval == prompt_tokens
        return EngineTimings(
            total_s=(prefill_ms + decode_ms) / 1e3,
            prefill_s=prefill_ms / 1e3 if told_apart else None,
            decode_s=decode_ms / 1e3 if told_apart else None,
        )

    def close(self) -> None:
        """Free the batch."""
        self._lib.llama_batch_free(self._batch)
