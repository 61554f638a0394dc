"""Does the real vLLM, in an environment of its own, do what the protocol of backends promises?

`make heavy` makes the environment and names its Python in LLMPERF_VLLM_PYTHON.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.backends import Request
from pytest_llmperf.contract import BackendContract
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.peaks import read_tree
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool
from tests.faults.processes import answer_to, prompt

PYTHON = os.environ.get("LLMPERF_VLLM_PYTHON")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(PYTHON is None, reason="vLLM needs an environment of its own: make heavy"),
]

SOURCE, QUANTIZATION = "synthetic:llama-160m", "F32"
"""In float32, where rounding tips fewer near ties."""
CONTEXT, BLOCK, SEQUENCES, STEP = 256, 32, 3, 512
SMALL: dict[str, object] = {
    "enforce_eager": True,
    "dtype": "float32",
    "max_model_len": CONTEXT,
    "block_size": BLOCK,
    "max_num_seqs": SEQUENCES,
    "max_num_batched_tokens": STEP,
}
TIMEOUT_S = 300.0
SHARED = Path("/dev/shm")
"""Where Linux shows what processes share."""


def loading(**options: object) -> Loading:
    backend, chosen = choose("vllm", SMALL | options, PYTHON)
    spec = ModelSpec(SOURCE, QUANTIZATION)
    return prepare(spec, backend, chosen, timeout_s=TIMEOUT_S, python=PYTHON)


def named(pids: Iterable[int]) -> list[Path]:
    """What has a name in shared memory, and would keep it, of what these processes have mapped."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    inodes = {int(line.split()[4]) for line in lines if f" {SHARED}/" in line}
    assert inodes, "vLLM's processes share memory"
    return [path for path in SHARED.iterdir() if path.stat().st_ino in inodes]


class TestVllm(BackendContract):
    """What is promised of every backend, and more; with the prefix cache that a depth needs."""

    backend = "vllm"
    source = SOURCE
    quantization = QUANTIZATION
    python = PYTHON
    tells_quality = True
    wrong_option = ("max_model_length", "max_model_len")

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Mapping[str, object]:
        return SMALL | {"enable_prefix_caching": True}

    @pytest.mark.parametrize("depth", [0, BLOCK])
    def test_each_sequence_of_a_batch_goes_on_as_it_would_alone(
        self, depth: int, model: LoadedModel
    ) -> None:
        prompts = [prompt(64, seed) for seed in range(SEQUENCES)]
        together = answer_to(model, Request(prompts=prompts, new_tokens=6, depth=depth))
        assert (together.count, len(together.instants_ns), len(together.token_ids)) == (6, 6, 18)
        alone = [
            answer_to(model, Request(prompts=[ids], new_tokens=6)).token_ids for ids in prompts
        ]
        same = [together.token_ids[place::SEQUENCES] == ids for place, ids in enumerate(alone)]
        assert sum(same) >= 2, same

    def test_a_batch_that_one_step_cannot_read_is_refused_with_the_cure(
        self, model: LoadedModel
    ) -> None:
        prompts = [prompt(200, seed) for seed in range(SEQUENCES)]
        with pytest.raises(EngineRefusal, match="load with max_num_batched_tokens=600"):
            answer_to(model, Request(prompts=prompts, new_tokens=2))
        assert answer_to(model, Request(prompts=prompts[:2], new_tokens=2)).count == 2

    def test_more_sequences_than_were_loaded_for_are_refused(self, model: LoadedModel) -> None:
        with pytest.raises(EngineRefusal, match="4 sequences asked for, the engine holds 3"):
            answer_to(model, Request(prompts=[prompt(8)] * 4, new_tokens=2))

    def test_tokens_are_read_ahead_in_whole_blocks(self, model: LoadedModel) -> None:
        with pytest.raises(EngineRefusal, match="whole blocks of 32 tokens: ask for depth=64"):
            answer_to(model, Request(prompts=[prompt(100)], new_tokens=2, depth=70))
        answer = answer_to(model, Request(prompts=[prompt(200)], new_tokens=2, depth=6 * BLOCK))
        read_ahead_ns = answer.whole_ns - (answer.instants_ns[-1] - answer.started_ns)
        assert answer.count == 2
        assert read_ahead_ns > answer.instants_ns[0] - answer.started_ns, "192 tokens, and then 8"

    def test_the_cache_is_as_large_as_the_sequences_need(self, model: LoadedModel) -> None:
        """And a block that vLLM keeps for itself; 12 layers of 12 heads of 64 keys and values."""
        tokens = SEQUENCES * CONTEXT + BLOCK
        assert model.options["kv_cache_memory_bytes"] == tokens * 12 * 12 * 64 * 2 * 4
        assert model.engine.build.endswith(f", KV cache of {tokens} tokens")
        assert model.engine.kv_element_bytes == model.engine.weight_element_bytes == 4.0

    def test_memory_is_that_of_the_worker_and_its_children(self, model: LoadedModel) -> None:
        tree = read_tree(model.worker.pid)
        assert model.files is not None
        children = [each for each in tree.members if each.pid != model.worker.pid]
        assert max(each.peak_bytes or 0 for each in children) > model.files.weight_bytes


def test_nothing_is_read_ahead_without_a_cache_and_no_shared_memory_keeps_a_name(
    tmp_path: Path,
) -> None:
    others = WorkerPool(tmp_path)
    try:
        model = others.load(loading())
        with pytest.raises(EngineRefusal, match="load with enable_prefix_caching=True"):
            answer_to(model, Request(prompts=[prompt(64)], new_tokens=2, depth=BLOCK))
        family = psutil.Process(model.worker.pid).children(recursive=True)
        assert family, "vLLM computes in a child on a CPU"
        assert named([model.worker.pid, *(each.pid for each in family)]) == []
    finally:
        others.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_model_len": 4096}, r"vLLM could not load(.|\n)*max_model_len(.|\n)*4096"),
        ({"quantization": "nonsense"}, r"vLLM could not load(.|\n)*nonsense"),
    ],
)
def test_what_vllm_will_not_do_is_a_refusal_in_its_words(
    options: dict[str, object], words: str, tmp_path: Path
) -> None:
    others = WorkerPool(tmp_path)
    try:
        with pytest.raises(EngineRefusal, match=words):
            others.load(loading(**options))
    finally:
        others.close()
