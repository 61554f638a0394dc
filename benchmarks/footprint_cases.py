"""Which models, engines, options and workloads is a predicted footprint held against?"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LLAMA = {
    "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8,
    "num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 16384,
}  # fmt: skip
_ALIBI = {"vocab_size": 32000, "hidden_size": 768, "n_layer": 8, "n_head": 12, "seq_length": 8192}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA | {"model_type": "llama"},
    "mistral": _LLAMA | {"model_type": "mistral", "sliding_window": None, "num_hidden_layers": 12},
    "qwen2": _LLAMA | {"model_type": "qwen2", "vocab_size": 64000},
    "qwen3": _LLAMA | {"model_type": "qwen3", "head_dim": 128, "tie_word_embeddings": True},
    "phi": _LLAMA | {"model_type": "phi", "num_key_value_heads": 12},
    "gemma2": _LLAMA | {"model_type": "gemma2", "head_dim": 64, "sliding_window": 1024,
                        "query_pre_attn_scalar": 64},
    "gemma3": _LLAMA | {"model_type": "gemma3_text", "head_dim": 64, "sliding_window": 512,
                        "query_pre_attn_scalar": 64},
    "gpt2": {"model_type": "gpt2", "vocab_size": 32000, "n_embd": 768, "n_layer": 8, "n_head": 12,
             "n_positions": 8192},
    "opt": {"model_type": "opt", "vocab_size": 32000, "hidden_size": 768, "ffn_dim": 3072,
            "num_hidden_layers": 8, "num_attention_heads": 12, "max_position_embeddings": 8192,
            "word_embed_proj_dim": 768},
    "falcon": {"model_type": "falcon", "vocab_size": 32000, "hidden_size": 768,
               "num_hidden_layers": 8, "num_attention_heads": 12, "multi_query": True,
               "parallel_attn": True, "bias": False, "max_position_embeddings": 8192},
    "bloom": _ALIBI | {"model_type": "bloom"},
    "mixtral": _LLAMA | {"model_type": "mixtral", "num_hidden_layers": 4, "num_local_experts": 4,
                         "num_experts_per_tok": 2, "sliding_window": None},
    "qwen3_moe": _LLAMA | {"model_type": "qwen3_moe", "num_hidden_layers": 4, "num_experts": 8,
                           "num_experts_per_tok": 2, "moe_intermediate_size": 512, "head_dim": 64},
    "mamba": {"model_type": "mamba", "vocab_size": 32000, "hidden_size": 768,
              "num_hidden_layers": 8, "state_size": 16, "expand": 2, "conv_kernel": 4},
    "llama-wide": _LLAMA | {"model_type": "llama", "hidden_size": 1536, "intermediate_size": 6144,
                            "num_attention_heads": 24, "num_key_value_heads": 8},
    "llama-128k": _LLAMA | {"model_type": "llama", "vocab_size": 128000},
}  # fmt: skip
_IN_GGUF = ("llama", "mistral", "qwen2", "qwen3", "phi", "llama-wide", "llama-128k")
_SEED = 20261126
NEW_TOKENS = 32


@dataclass(frozen=True)
class Case:
    """One model, loaded in one way, at one work."""

    model: str
    backend: str
    quantization: str
    prompt_tokens: int = 512
    batch: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``llama Q8_0 512×1 n_ctx=2048``."""
        own = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.model} {self.quantization} {self.prompt_tokens}×{self.batch} {own}".strip()

    def source(self, folder: Path) -> str:
        """The synthetic model's source, its config written below ``folder``."""
        place = folder / self.model
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text(json.dumps(CONFIGS[self.model]))
        return f"synthetic:{place}/config.json"


def _in_llama_cpp() -> list[Case]:
    cases = [
        Case(model, "llama-cpp", quantization, options={"n_ctx": 2048})
        for model, quantization in itertools.product(
            ("llama", "qwen2", "qwen3", "phi"), ("F16", "Q8_0", "Q4_K_M", "Q4_0")
        )
    ]
    cases += [
        Case(model, "llama-cpp", "Q8_0", options={"n_ctx": 2048})
        for model in ("mistral", "llama-wide", "llama-128k")
    ]
    own_cases: list[tuple[dict[str, Any], int, int]] = [
        ({"n_ctx": 512}, 448, 1),
        ({"n_ctx": 4096}, 1024, 1),
        ({"n_ctx": 8192}, 1024, 1),
        ({"n_ctx": 4096, "n_ubatch": 128}, 2048, 1),
        ({"n_ctx": 4096, "n_ubatch": 1024}, 2048, 1),
        ({"n_ctx": 4096, "flash_attn": "off"}, 2048, 1),
        ({"n_ctx": 8192, "type_k": "q8_0", "type_v": "q8_0"}, 2048, 1),
        ({"n_ctx": 8192, "type_k": "q4_0", "type_v": "q4_0"}, 2048, 1),
        ({"n_ctx": 8192, "n_seq_max": 4}, 512, 4),
        ({"n_ctx": 2048, "use_mmap": False}, 512, 1),
    ]
    cases += [
        Case("llama", "llama-cpp", "Q8_0", prompt, batch, own) for own, prompt, batch in own_cases
    ]
    read = {"n_ctx": 2048, "use_mmap": False}
    return [*cases, Case("llama", "llama-cpp", "Q4_K_M", options=read)]


def _in_transformers() -> list[Case]:
    usual = [model for model in CONFIGS if model not in ("mistral", "llama-wide")]
    return [
        *(Case(model, "transformers", "BF16", options=_attention(model)) for model in usual),
        Case("llama", "transformers", "BF16", 2048),
        Case("llama", "transformers", "BF16", 4096),
        Case("llama", "transformers", "BF16", 512, 4),
        Case("gpt2", "transformers", "BF16", 2048),
        Case("gemma3", "transformers", "BF16", 2048),
        Case("llama", "transformers", "F32"),
        Case("llama", "transformers", "BF16", options={"dtype": "float32"}),
        Case("llama", "transformers", "BF16", 2048, options={"attn_implementation": "eager"}),
        *(
            Case(model, "transformers", "BF16", options={"quantize": packing})
            for model in ("llama", "llama-wide")
            for packing in ("nf4", "int8")
        ),
    ]


def _attention(model: str) -> dict[str, Any]:
    """Some architectures have no fused attention in transformers."""
    return {"attn_implementation": "eager"} if model in ("gemma2", "bloom", "mamba") else {}


FITTED = [*_in_llama_cpp(), *_in_transformers()]
"""What the constants of pytest_llmperf/fit were chosen by."""


def drawn(count: int = 14) -> list[Case]:
    """Others, drawn by seed; half of them for each engine."""
    choose = random.Random(_SEED)
    found: list[Case] = []
    while len(found) < count:
        case = _any_llama_cpp(choose) if len(found) % 2 else _any_transformers(choose)
        if case.name not in {each.name for each in (*FITTED, *found)}:
            found.append(case)
    return found


def _any_llama_cpp(choose: random.Random) -> Case:
    context = choose.choice((512, 1024, 2048, 4096, 8192))
    batch = choose.choice((1, 1, 1, 2, 4)) if context > 1024 else 1
    kind = choose.choice(("f16", "f16", "q8_0", "q4_0"))
    quantization = choose.choice(("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_NL"))
    options: dict[str, Any] = {"n_ctx": context}
    if batch > 1:
        options["n_seq_max"] = batch
    if kind != "f16":
        options |= {"type_k": kind, "type_v": kind}
    if choose.random() < 0.3:
        options["n_ubatch"] = choose.choice((64, 256, 1024))
    prompt = min(context // batch - NEW_TOKENS, choose.choice((64, 512, 1024)))
    return Case(choose.choice(_IN_GGUF), "llama-cpp", quantization, prompt, batch, options)


def _any_transformers(choose: random.Random) -> Case:
    prompt, batch = choose.choice(((128, 1), (512, 1), (512, 2), (1024, 1), (3072, 1)))
    model = choose.choice(list(CONFIGS))
    options = {"attn_implementation": "eager"} if choose.random() < 0.2 else _attention(model)
    quantization = choose.choice(("BF16", "BF16", "F32"))  # F16 takes minutes on a CPU
    return Case(model, "transformers", quantization, prompt, batch, options)
