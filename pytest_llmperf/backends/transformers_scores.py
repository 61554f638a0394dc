"""Which logits does a transformers model give after every token of a sequence?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused, TextTokens

if TYPE_CHECKING:
    from pytest_llmperf.backends.transformers_cache import CacheUse, RequestCaches

_PIECE_TOKENS = 32
"""What is read at once where a cache has to be seen at work: a whole prompt is not read from it."""
_LEAST_QUANTIZED = 0.5
"""Share of the tokens read from a quantized cache."""


def logits_of(torch: Any, model: Any, caches: RequestCaches, inputs: Any) -> Any:
    """Float32, (tokens, vocabulary), of ``inputs``: ids, (1, tokens).

    In one step; through another cache than the usual one in pieces, so that it is read. Raises
    EngineRefused where little of what was read from a quantized cache was quantized.
    """
    if caches.kind in ("dynamic", "off"):
        rows = model(input_ids=inputs, use_cache=False).logits[0]
    else:
        rows = torch.cat(_read_in_pieces(model, caches, inputs))
    return rows.float().cpu().contiguous().numpy()


def _read_in_pieces(model: Any, caches: RequestCaches, inputs: Any) -> list[Any]:
    """The logits of each piece, (tokens, vocabulary). Raises EngineRefused."""
    cache = caches.make(inputs.shape[1])
    rows, held = [], []
    for piece in inputs.split(_PIECE_TOKENS, dim=1):
        rows.append(model(input_ids=piece, past_key_values=cache, use_cache=True).logits[0])
        held.append(caches.use(cache))
    # What the last piece left behind was read by none.
    read = [each for each in held[:-1] if each is not None]
    if caches.kind == "quantized":
        _require_quantized(read, inputs.shape[1])
    return rows


def _require_quantized(read: list[CacheUse], tokens: int) -> None:
    """A request quantizes its whole prompt, pieces leave some of it waiting.

    ``read``: what was in the cache each time that it was read. Raises EngineRefused.
    """
    if not read:
        raise EngineRefused(
            f"a text of {tokens} tokens is read at once, and nothing of it from the quantized "
            f"cache: read one of more than {_PIECE_TOKENS}"
        )
    share = sum(each.quantized_tokens for each in read) / sum(each.tokens for each in read)
    if share < _LEAST_QUANTIZED:
        raise EngineRefused(
            f"{share:.0%} of what {tokens} tokens read from the cache was quantized, and all of a "
            "request's prompt is: they would not tell its quality. Give cache_residual_length="
            f"{max(1, tokens // 4)} or less"
        )


def tokenize(folder: str, text: str) -> TextTokens:
    """With the tokenizer in ``folder``. Raises EngineRefused."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise EngineRefused(f"{folder} has no tokenizer: {error}") from error
    ids = [int(each) for each in tokenizer.encode(text, add_special_tokens=False)]
    first = tokenizer.encode("a")[0]
    return TextTokens(ids=ids, begin=first if first == tokenizer.bos_token_id else None)
