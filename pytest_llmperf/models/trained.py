"""Which small models are trained here, and how?

Random weights tell everything about speed and memory, and nothing about what a model says: its
perplexity, whether a draft is accepted, what a quantization loses. These are small Llamas that
read the shipped texts byte by byte until they know some English. ``trained:small`` takes about two
minutes to make on two cores, once; it is cached like a synthetic model, in every format.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.models.errors import UnknownModel
from pytest_llmperf.texts import MEASURED, TRAINED_ON

_TRAINER = 1
"""To be raised whenever the same recipe would give other weights."""


@dataclass(frozen=True)
class Recipe:
    """One small model, and how long it reads."""

    config: dict[str, Any]
    steps: int
    batch: int = 2
    window_tokens: int = 512
    learning_rate: float = 2e-3


def _llama(hidden: int, layers: int, heads: int, kv_heads: int) -> dict[str, Any]:
    """Widths are multiples of 256 where they can be, so that every type of quantization fits."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 512,  # the bytes, and what makes it a round number
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
    }


RECIPES = {
    "small": Recipe(_llama(256, 4, 8, 4), steps=500),
    "draft": Recipe(_llama(256, 1, 4, 2), steps=900),
}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``. Raises UnknownModel."""
    recipe = RECIPES.get(name)
    if recipe is None:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        meant = f", did you mean {near[0]!r}?" if near else ""
        raise UnknownModel(f"no model is trained by the name {name!r}{meant}; {', '.join(RECIPES)}")
    return recipe


def training_text() -> str:
    """All of one shipped text; of the other, whose beginning is measured, what follows."""
    return TRAINED_ON.read_text() + MEASURED.read_text()[len(unread_text()) :]


def unread_text() -> str:
    """The beginning of a shipped text, which no model that is trained here has read."""
    measured = MEASURED.read_text()
    return measured[: measured.index("CHAPTER II")]


def reading(recipe: Recipe) -> str:
    """What the weights follow from beside config and seed: the recipe's numbers and the text."""
    text = hashlib.sha256(training_text().encode()).hexdigest()
    steps = f"{recipe.steps}×{recipe.batch}×{recipe.window_tokens} at {recipe.learning_rate:g}"
    return f"{_TRAINER}: {steps} of {text}"
