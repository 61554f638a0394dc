"""Which tokens does a server make of a text, and which log-probabilities does it tell of them?

vLLM's server answers both: ``/tokenize``, and ``prompt_logprobs`` of a completion (an extension of
its own; in OpenAI's interface only generated tokens have some). llama-server makes tokens and tells
nothing of a prompt's.

Sources: ``TokenizeCompletionRequest`` in vLLM's entrypoints/serve/tokenize/protocol.py,
``CompletionRequest.prompt_logprobs`` in entrypoints/openai/completion/protocol.py; ``POST
/tokenize`` in llama.cpp's tools/server/README.md.
"""

from __future__ import annotations

import msgspec

from pytest_llmperf.backends.prompt_shares import read_shares
from pytest_llmperf.backends.protocol import EngineRefused, LogProbs, TextTokens
from pytest_llmperf.backends.server_api import NoAnswer, ServerApi, ServerRefused

_TRIAL = "a"


class Tokens(msgspec.Struct):
    """What ``/tokenize`` answers."""

    tokens: list[int]


class Told(msgspec.Struct):
    """Of one token in one place of a prompt."""

    logprob: float
    rank: int | None = None


class Choice(msgspec.Struct):
    """One completion; the first token of its prompt has no share."""

    prompt_logprobs: list[dict[int, Told] | None] | None = None


class Completion(msgspec.Struct):
    """An answer that is no stream."""

    choices: list[Choice]


def tokenize(api: ServerApi, model: str, text: str) -> TextTokens:
    """With the server's own tokenizer. Raises EngineRefused."""

    def tokens(of: str, *, special: bool) -> list[int]:
        body = {
            "model": model,
            "prompt": of,  # vLLM, and the next
            "add_special_tokens": special,
            "content": of,  # llama.cpp, and the next
            "add_special": special,
        }
        return api.ask("/tokenize", body, Tokens).tokens

    try:
        plain, whole = (tokens(_TRIAL, special=each) for each in (False, True))
        begin = whole[0] if whole[1 : 1 + len(plain)] == plain else None
        return TextTokens(ids=tokens(text, special=False), begin=begin)
    except (NoAnswer, ServerRefused) as error:
        raise EngineRefused(f"the server makes no tokens of a text: {error}") from None


def log_probs(api: ServerApi, path: str, model: str, tokens: list[int]) -> LogProbs:
    """What a completion tells of its prompt. Raises EngineRefused."""
    body = {
        "model": model,
        "prompt": tokens,
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 1,  # of the likeliest, and of the token itself
    }
    try:
        answer = api.ask(path, body, Completion)
    except NoAnswer as error:
        raise EngineRefused(f"no log-probabilities of a prompt: {error}") from None
    shares = answer.choices[0].prompt_logprobs if answer.choices else None
    if shares is None:
        raise EngineRefused(
            "the server tells no log-probabilities of a prompt (vLLM's prompt_logprobs), so that "
            "output quality cannot be measured through it: have the same files read by llama-cpp "
            "or transformers"
        )
    return read_shares([of or {} for of in shares], tokens)
