"""On how many GPUs does an engine compute, by its options?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.backends import find_backend


@pytest.mark.parametrize(
    ("backend", "options", "count"),
    [
        ("llama-cpp", {}, None),
        ("llama-cpp", {"split_mode": "none"}, 1),
        ("llama-cpp", {"split_mode": "none", "main_gpu": 1}, None),
        ("llama-cpp", {"split_mode": "row"}, None),
        ("llama-cpp", {"n_gpu_layers": 0}, 0),
        ("transformers", {}, 1),
        ("transformers", {"device": "cuda"}, 1),
        ("transformers", {"device": "cuda:1"}, None),
        ("transformers", {"device": "cpu"}, 0),
        ("transformers", {"device_map": "auto"}, None),
        ("transformers-training", {}, 1),
        ("transformers-training", {"device": "cpu"}, 0),
        ("vllm", {}, 1),
        ("vllm", {"tensor_parallel_size": 2}, 2),
        ("tensorrt-llm", {"tensor_parallel_size": 4}, 4),
        ("exllamav2", {}, None),
        ("onnxruntime", {}, 0),
        ("openai", {}, None),
        ("openai", {"device": "cpu"}, 0),
        ("openai", {"device": "cpu", "base_url": "http://127.0.0.1:1"}, None),
        ("ollama", {}, None),
        ("fake", {}, 0),
    ],
)
def test_what_it_takes_follows_from_its_options(
    backend: str, options: dict[str, object], count: int | None
) -> None:
    chosen = msgspec.convert(options, find_backend(backend).options_type)
    assert chosen.gpus() == count
