"""How many tokens does each part of a completion stream hold, and what does the server say of it?

Tokens are counted by what the server itself says of them, the best first: the ids in each part
(vLLM's ``return_token_ids``), the running count in each part (``continuous_usage_stats`` of vLLM,
SGLang and TensorRT-LLM), the running count of llama.cpp's timings (``timings_per_token``). Parts
are never counted: one may hold several tokens, or none.

Sources: ``CompletionStreamResponse`` in vLLM's entrypoints/openai/completion/protocol.py;
llama.cpp's tools/server/README.md, server-task.cpp and server-common.cpp
(``server_slot_stats::to_json``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from pytest_llmperf.backends.protocol import EngineEnded, EngineTimings
from pytest_llmperf.backends.timeline import UNKNOWN


class Choice(msgspec.Struct):
    """What one part adds to the answer."""

    token_ids: list[int] | None = None
    """vLLM."""
    finish_reason: str | None = None


class PromptDetails(msgspec.Struct):
    """Of the prompt's tokens."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """The server's own count up to now."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class Timings(msgspec.Struct):
    """llama.cpp's own clock and counters up to now."""

    cache_n: int | None = None
    """Prompt tokens that it had kept from before."""
    prompt_ms: float | None = None
    predicted_n: int | None = None
    predicted_ms: float | None = None


class Metrics(msgspec.Struct):
    """vLLM's own clock, in the last part (``--enable-per-request-metrics``)."""

    time_to_first_token_ms: float | None = None
    generation_time_ms: float | None = None


class Verbose(msgspec.Struct):
    """What llama.cpp adds when it is asked to be verbose."""

    tokens: list[int] = []
    """The latest token; of those that it held back before there is no word."""


class Part(msgspec.Struct):
    """One event of the stream; fields that are not named here are ignored."""

    choices: list[Choice] = []
    usage: Usage | None = None
    timings: Timings | None = None
    metrics: Metrics | None = None
    verbose: Verbose | None = msgspec.field(name="__verbose", default=None)
    error: msgspec.Raw = msgspec.Raw()


_DONE = b"[DONE]"
_DECODER = msgspec.json.Decoder(Part)


class Tally:
    """The tokens of one stream, and what the server says of the whole."""

    def __init__(self, quoted: Callable[[str], str]) -> None:
        """``quoted`` makes what can be shown of the server's own words."""
        self._quoted = quoted
        self.count = 0
        """Tokens so far."""
        self.counted_by: str | None = None
        """What the counts come from; None: the stream tells no count."""
        self.is_done = False
        """Whether the server said that this was all."""
        self.usage: Usage | None = None
        self.timings: Timings | None = None
        self.metrics: Metrics | None = None

    def take(self, data: Iterable[bytes]) -> list[int]:
        """The tokens that these events add. Raises EngineEnded for what is no such event."""
        found: list[int] = []
        for each in data:
            if each == _DONE:
                self.is_done = True
            else:
                found += self._add(self._read(each))
        self.count += len(found)
        return found

    def _add(self, part: Part) -> list[int]:
        self.usage = part.usage or self.usage
        self.timings = part.timings or self.timings
        self.metrics = part.metrics or self.metrics
        if not part.choices:  # only what it says of the whole
            return []
        ids = part.choices[0].token_ids
        if ids is not None:
            self.counted_by = "token ids"
            return ids
        if self.counted_by == "token ids":
            return []
        now = _running_count(part)
        if now is None:
            return []
        self.counted_by = "running counts"
        self._running, new = now, now - self._running
        named = part.verbose.tokens[-1:] if part.verbose is not None else []
        return [*[UNKNOWN] * (new - 1), *(named or [UNKNOWN])] if new > 0 else []

    def _read(self, data: bytes) -> Part:
        try:
            part = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            told = self._quoted(str(error))
            raise EngineEnded(f"the server's stream holds what is no completion: {told}") from None
        if part.error:
            told = self._quoted(bytes(part.error).decode(errors="replace"))
            raise EngineEnded(f"the server broke off: {told}")
        return part

    _running = 0

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that the server did not read anew; None: it does not say."""
        if self.timings is not None and self.timings.cache_n is not None:
            return self.timings.cache_n
        details = None if self.usage is None else self.usage.prompt_tokens_details
        return None if details is None else details.cached_tokens

    def trouble(self, prompt_tokens: int) -> str | None:
        """Why the counts of a finished stream are not to be believed; None: they are."""
        if self.counted_by is None:
            return "the stream tells neither token ids nor counts: its parts cannot be counted"
        usage = self.usage
        if usage is not None and usage.completion_tokens not in {None, self.count}:
            return (
                f"{self.count} tokens streamed, but the server's usage counts "
                f"{usage.completion_tokens}"
            )
        if usage is not None and usage.prompt_tokens not in {0, prompt_tokens}:
            return f"{prompt_tokens} prompt tokens sent, but the server read {usage.prompt_tokens}"
        if self.cached_tokens:
            return (
                f"{self.cached_tokens} of {prompt_tokens} prompt tokens came from the server's "
                "prefix cache: switch it off"
            )
        return None

    @property
    def own_times(self) -> EngineTimings | None:
        """What the server's own clock says of both phases; None: it says nothing."""
        spans: tuple[float | None, float | None] = (None, None)
        if self.timings is not None:
            spans = self.timings.prompt_ms, self.timings.predicted_ms
        elif self.metrics is not None:
            spans = self.metrics.time_to_first_token_ms, self.metrics.generation_time_ms
        prefill_ms, decode_ms = spans
        if prefill_ms is None or decode_ms is None:
            return None
        return EngineTimings(
            total_s=(prefill_ms + decode_ms) / 1e3,
            prefill_s=prefill_ms / 1e3,
            decode_s=decode_ms / 1e3,
        )


def _running_count(part: Part) -> int | None:
    if part.usage is not None and part.usage.completion_tokens is not None:
        return part.usage.completion_tokens
    return None if part.timings is None else part.timings.predicted_n
