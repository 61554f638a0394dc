"""How is a small model trained? Plain AdamW over random windows of one text, on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import tokenizers
import torch
import transformers

from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.safetensors import SINGLE
from pytest_llmperf.models.trained import Recipe
from pytest_llmperf.models.writers.weights import cores

_WARM_UP = 0.1
"""Of the steps; then the rate falls to a tenth along a cosine."""
_WEIGHT_DECAY = 0.1
_CLIP = 1.0


def train(
    folder: Path,
    config: ModelConfig,
    recipe: Recipe,
    text: str,
    seed: int,
    progress: Callable[[float], None],
) -> None:
    """Write ``model.safetensors`` beside the config and tokenizer in ``folder``.

    In float32, but rounded to bfloat16: every format holds the same weights.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(cores())
    settings = transformers.AutoConfig.for_model(**config.values)
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = torch.tensor(tokenizer.encode(text).ids)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.95)
    )
    model.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _rate(step / recipe.steps)
        starts = torch.randint(len(ids) - recipe.window_tokens, (recipe.batch,))
        windows = torch.stack([ids[start : start + recipe.window_tokens] for start in starts])
        loss = model(windows, labels=windows).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        progress((step + 1) / recipe.steps)
    tensors = {
        name: each.detach().bfloat16().float().contiguous()
        for name, each in model.named_parameters()
    }
    safetensors.torch.save_file(tensors, folder / SINGLE, metadata={"format": "pt"})


def _rate(done: float) -> float:
    """Of the recipe's learning rate, after this share of the steps."""
    if done < _WARM_UP:
        return (done + 0.01) / (_WARM_UP + 0.01)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))
