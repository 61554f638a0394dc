"""Which logits does a transformers model give after every token of a sequence?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused, TextTokens

if TYPE_CHECKING:
    from pytest_llmperf.backends.transformers_cache import RequestCaches

_PIECE_TOKENS = 32
"""What is read at once where a cache has to be seen at work: a whole prompt is not read from it."""


def logits_of(torch: Any, model: Any, caches: RequestCaches, inputs: Any) -> Any:
    """Float32, (tokens, vocabulary), of ``inputs``: ids, (1, tokens).

    In one step; through another cache than the usual one in pieces, so that it is read.
    """
    if caches.kind == "dynamic":
        rows = model(input_ids=inputs, use_cache=False).logits[0]
    else:
        cache = caches.make(inputs.shape[1])
        pieces = [
            model(input_ids=piece, past_key_values=cache, use_cache=True).logits[0]
            for piece in inputs.split(_PIECE_TOKENS, dim=1)
        ]
        rows = torch.cat(pieces)
    return rows.float().cpu().contiguous().numpy()


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
