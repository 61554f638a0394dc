"""How does what an engine says of a sequence get to the host?

Logits through a file, because they are larger than any message; log-probabilities in the message.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_llmperf.backends import EngineRefused, LogProbs
from pytest_llmperf.worker.messages import Score, Scored

_FLOAT32_BYTES = 4


def score(said: Any, asked: Score, vocab_size: int) -> Scored:
    """``said``: as ``Engine.logits`` gives it. Raises EngineRefused for what is neither kind."""
    if isinstance(said, LogProbs):
        return _log_probs(said, asked)
    count = len(asked.token_ids)
    logits = memoryview(said)
    columns, left = divmod(logits.nbytes, count * _FLOAT32_BYTES)
    if logits.format != "f" or left or columns < vocab_size:
        raise EngineRefused(
            f"the adapter's logits are {logits.nbytes} bytes of type {logits.format!r} for "
            f"{count} tokens: float32 is wanted, {vocab_size} or more for each"
        )
    begin = asked.first * columns * _FLOAT32_BYTES
    Path(asked.path).write_bytes(logits.cast("B")[begin:])
    return Scored(rows=count - asked.first, columns=columns)


def _log_probs(said: LogProbs, asked: Score) -> Scored:
    """Of the tokens that follow the first one asked for."""
    wanted = len(asked.token_ids) - 1
    if not len(said.told) == len(said.likeliest) == wanted:
        raise EngineRefused(
            f"the adapter's log-probabilities are {len(said.told)} and {len(said.likeliest)} for "
            f"{wanted + 1} tokens: {wanted} are wanted, for all but the first"
        )
    kept = LogProbs(told=said.told[asked.first :], likeliest=said.likeliest[asked.first :])
    return Scored(rows=len(kept.told), columns=0, log_probs=kept)
