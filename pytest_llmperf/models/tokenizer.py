"""Which tokens does a synthetic model have, so that any text goes in and comes out unchanged?

A byte-level vocabulary as GPT-2's: one token per byte, two special ones, one merge (llama.cpp
wants at least one), and words that fill it up to the size the model wants. The words are never
produced from text; they are there so that every token a random model emits has a text.
"""

from __future__ import annotations

from typing import Any

from pytest_llmperf.models.errors import UnsupportedModel

BOS_ID, EOS_ID, MERGED_ID = 256, 257, 258
BOS, EOS = "<|llmperf_bos|>", "<|llmperf_eos|>"
MERGE = ("t", "h")
SMALLEST = 259

_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))


def tokens(vocab_size: int) -> list[str]:
    """Return the ``vocab_size`` tokens in GPT-2's spelling of bytes, in the order of their ids.

    Raises UnsupportedModel when the vocabulary is too small for all bytes.
    """
    if vocab_size < SMALLEST:
        raise UnsupportedModel(
            f"a vocabulary of {vocab_size} tokens is too small for a byte-level tokenizer; "
            f"vocab_size must be at least {SMALLEST}."
        )
    spelling = {byte: chr(byte) for byte in _PRINTABLE}
    others = (byte for byte in range(256) if byte not in spelling)
    spelling |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    space = spelling[ord(" ")]
    words = [f"{space}w{token}" for token in range(SMALLEST, vocab_size)]
    return [*(spelling[byte] for byte in range(256)), BOS, EOS, "".join(MERGE), *words]


def tokenizer_json(vocab_size: int) -> dict[str, Any]:
    """Return the content of a ``tokenizer.json`` that Hugging Face's tokenizers load."""
    byte_level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token, "content": text, "special": True, **special}
            for token, text in ((BOS_ID, BOS), (EOS_ID, EOS))
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **byte_level},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", **byte_level},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: token for token, text in enumerate(tokens(vocab_size))},
            "merges": [list(MERGE)],
        },
    }


def tokenizer_config(context_length: int) -> dict[str, Any]:
    """Return the content of the ``tokenizer_config.json`` beside it."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
    }
