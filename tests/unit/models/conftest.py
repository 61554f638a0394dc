"""Small models and a cache of their own for every test of this room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

ConfigWriter = Callable[..., str]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    monkeypatch.setenv("LLMPERF_CACHE", str(root))
    return root


@pytest.fixture
def tiny(tmp_path: Path) -> ConfigWriter:
    """Write a small config with some fields changed; give the source that names it."""

    def write(**changes: Any) -> str:
        values = {key: value for key, value in (TINY | changes).items() if value is not None}
        folder = tmp_path / "tiny"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(values))
        return f"synthetic:{folder}/config.json"

    return write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache: a model, a partial build of another, an environment and a tool."""
    for folder in (
        "models/llama-F16-0123456789ab",
        "models/.tmp-phi-Q4_0-0123456789ab-x_y1",
        "environments/vllm",
        "llama-server/1",
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "environments/vllm/.ready").touch()
    return tmp_path
