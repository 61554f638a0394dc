"""Nothing is drafted, or what is drafted is never right."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.models.trained import find_recipe
from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation, without

ASSISTANT = ("assistant_model", "num_assistant_tokens", "assistant_confidence_threshold")


def with_a_bad_draft(wish: Wish) -> Wish:
    """One that has read nothing."""
    if "draft_model" not in wish.options:
        return wish
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(find_recipe("draft").config), encoding="utf-8")
        path = resolve(ModelSpec(f"synthetic:{config}", "F16"), "gguf").path
    return replace(wish, options={**wish.options, "draft_model": path})


MUTATIONS = [
    Mutation(
        "nothing is drafted", "a_draft_brings", without("draft_model", "draft_max"), quick=True
    ),
    Mutation("drafts are never right", "a_draft_brings", with_a_bad_draft),
    Mutation("nothing is looked up", "prompt_lookup", without("prompt_lookup_num_tokens")),
    Mutation("no draft is bad", "never_right", without("draft_model", "draft_max")),
    Mutation("nobody assists", "assistant", without(*ASSISTANT)),
]
