"""Does transformers make the weights and hold the cache that a config foretells?

Small models of every type, all in one process of the engine; the published ones without weights.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pytest_llmperf.models.catalogue import find, known
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.layers import transformers_bytes
from pytest_llmperf.models.layers_hf import MODEL_TYPES, language_config, layers_of_config
from pytest_llmperf.models.parameters import parameters_of_config

pytestmark = pytest.mark.engine

PROGRAM = """
import json, sys
import torch, transformers
from transformers import AutoConfig, AutoModelForCausalLM

TABLES = "embed_tokens", "embed_positions", "wte", "wpe", "word_embeddings.", "embeddings.weight"

def kind(name, tensor):
    if any(table in name for table in TABLES):
        return "embedding"
    if name == "lm_head.weight":
        return "output"
    if tensor.ndim == 1 or name.endswith("_bias") or "conv1d" in name or "A_log" in name:
        return "norms_and_biases"
    return "experts" if ".experts." in name else "matrices"

def counts(config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    stored = model.state_dict().keys()
    buffers = [(name, tensor) for name, tensor in model.named_buffers() if name in stored]
    found = {}
    for name, tensor in [*model.named_parameters(), *buffers]:
        found[kind(name, tensor)] = found.get(kind(name, tensor), 0) + tensor.numel()
    return found

def held(layer):
    tensors = [getattr(layer, "keys", None), getattr(layer, "values", None)]
    for states in ("conv_states", "recurrent_states"):
        tensors += getattr(layer, states, {}).values()
    return sum(t.untyped_storage().nbytes() for t in tensors if t is not None)

def cache(config):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    with torch.inference_mode():
        out = model(torch.arange(3, 23)[None], use_cache=True)
        name = "past_key_values" if "past_key_values" in out else "cache_params"
        sizes = [[held(layer) for layer in out[name].layers]]
        for _ in range(3):
            model(torch.tensor([[5]]), use_cache=True, **{name: out[name]})
        sizes.append([held(layer) for layer in out[name].layers])
    return sizes

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
answers = []
for model_type, values, runs in json.load(sys.stdin):
    config = AutoConfig.for_model(model_type, **values)
    answers.append([counts(config), cache(config) if runs else None])
print(json.dumps(answers))
"""
PROMPT, TOKENS = 20, 23

BASE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 80,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
}
DELTA = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
SCAN = {"mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2}
JAMBA = SCAN | {
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "attn_layer_period": 4,
    "attn_layer_offset": 2,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
MIXTURE = {"num_local_experts": 4, "num_experts_per_tok": 2}
WINDOW = {"sliding_window": 8}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("bloom", {"n_layer": 4, "n_head": 4}),
    ("deepseek_v2", LATENT | {"q_lora_rank": None, "first_k_dense_replace": 1}),
    (
        "deepseek_v2",
        LATENT | {"q_lora_rank": 30, "first_k_dense_replace": 0, "attention_bias": True},
    ),
    (
        "deepseek_v3",
        LATENT | {"q_lora_rank": 40, "first_k_dense_replace": 2, "n_group": 2, "topk_group": 1},
    ),
    ("falcon", {}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    (
        "falcon",
        {
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
            "ffn_hidden_size": 100,
        },
    ),
    (
        "falcon",
        {
            "multi_query": False,
            "parallel_attn": False,
            "alibi": True,
            "bias": True,
            "tie_word_embeddings": False,
        },
    ),
    ("gemma2", WINDOW | {"head_dim": 24}),
    ("gemma3_text", WINDOW | {"head_dim": 24, "sliding_window_pattern": 3}),
    ("gemma3_text", WINDOW | {"attention_bias": True}),
    ("gpt2", {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 256}),
    ("gpt_bigcode", {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 256}),
    (
        "gpt_bigcode",
        {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 256, "multi_query": False},
    ),
    ("gpt_oss", WINDOW | MIXTURE | {"head_dim": 24}),
    ("jamba", JAMBA),
    ("jamba", JAMBA | {"mamba_proj_bias": True, "mamba_dt_rank": 7, "tie_word_embeddings": True}),
    ("llama", {"head_dim": 32, "attention_bias": True, "mlp_bias": True}),
    ("mamba", {"state_size": 16, "conv_kernel": 4, "expand": 2}),
    (
        "mamba",
        {
            "state_size": 8,
            "conv_kernel": 3,
            "expand": 2,
            "use_bias": True,
            "time_step_rank": 9,
            "tie_word_embeddings": False,
        },
    ),
    ("mistral", WINDOW),
    ("mistral", {}),
    ("mixtral", MIXTURE),
    ("opt", {"ffn_dim": 96}),
    ("opt", {"ffn_dim": 96, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    ("phi", {"qk_layernorm": True}),
    ("phi3", WINDOW),
    ("qwen2", WINDOW | {"use_sliding_window": True, "max_window_layers": 2}),
    ("qwen2_moe", EXPERTS | {"decoder_sparse_step": 2, "mlp_only_layers": [3]}),
    ("qwen2_moe", EXPERTS | WINDOW | {"use_sliding_window": True, "max_window_layers": 3}),
    ("qwen3", {"head_dim": 24}),
    ("qwen3", {"attention_bias": True, "tie_word_embeddings": True}),
    ("qwen3_moe", EXPERTS | {"head_dim": 24, "mlp_only_layers": [0], "attention_bias": True}),
    ("qwen3_moe", EXPERTS | WINDOW | {"use_sliding_window": True}),
    ("qwen3_next", EXPERTS | DELTA | {"head_dim": 32}),
]
OWN_NAMES = (
    "falcon",
    "gpt2",
    "gpt_bigcode",
    "bloom",
    "opt",
    "mamba",
)  # that do not take all common fields


def fields(model_type: str, changes: dict[str, Any]) -> dict[str, Any]:
    taken = (
        ("vocab_size", "pad_token_id")
        if model_type.startswith("gpt") and model_type in OWN_NAMES
        else tuple(BASE)
    )
    if model_type in OWN_NAMES:
        taken = tuple(
            name for name in taken if name not in ("intermediate_size", "num_key_value_heads")
        )
    return {name: BASE[name] for name in taken} | changes


@pytest.fixture(scope="module")
def answers() -> list[Any]:
    """What one process of transformers says about all cases, then about the catalogue."""
    tasks: list[tuple[str, dict[str, Any], bool]] = [
        (model_type, fields(model_type, changes), True) for model_type, changes in CASES
    ]
    for name in known():
        config = language_config(find(name))
        rest = {
            field: value
            for field, value in config.values.items()
            if field not in ("model_type", "text_config")
        }
        tasks.append((config.model_type, rest, False))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def counted(config: ModelConfig) -> dict[str, int]:
    found = parameters_of_config(config)
    kinds = ("embedding", "output", "matrices", "norms_and_biases", "experts")
    return {kind: getattr(found, kind) for kind in kinds if getattr(found, kind)}


def test_every_type_is_tried() -> None:
    assert {model_type for model_type, _ in CASES} == set(MODEL_TYPES) - {"gemma3"}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case[0] for case in CASES])
def test_a_small_model_of_every_type(number: int, answers: list[Any]) -> None:
    model_type, changes = CASES[number]
    config = ModelConfig("here", fields(model_type, changes) | {"model_type": model_type})
    counts, (after_prompt, after_steps) = answers[number]
    assert counted(config) == counts
    kept = layers_of_config(config).layers
    held = [transformers_bytes(each, PROMPT, prompt_tokens=PROMPT) for each in kept]
    assert held == after_prompt
    assert [transformers_bytes(each, TOKENS) for each in kept] == after_steps


@pytest.mark.parametrize("number", range(len(known())), ids=known())
def test_the_catalogue(number: int, answers: list[Any]) -> None:
    counts, _ = answers[len(CASES) + number]
    assert counted(find(known()[number])) == counts
