"""What work is a model asked to have memory for?"""

from __future__ import annotations

import msgspec

from pytest_llmperf.backends.llama_cpp import CacheType


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Sequences of tokens that are in memory at once."""

    context_tokens: int
    """Of each sequence: prompt and generated tokens together."""
    prompt_tokens: int
    """Of these, read in one piece."""
    sequences: int = 1
    cache_type: CacheType = "f16"
    """Of keys and values, where the engine takes one."""
    prompts: int | None = None
    """Different ones that are read one after another; None: two or more."""
    flash_attention: bool = True
    """Whether scores need no buffer."""
