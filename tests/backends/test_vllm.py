"""Does the real vLLM, in an environment of its own, do what the protocol of backends promises?

`make heavy` makes the environment and names its Python in LLMPERF_VLLM_PYTHON.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.backends import Request
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.errors import EngineRefusal, WorkerDied
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.peaks import read_tree
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool
from tests.faults.processes import GONE_WITHIN_S, answer_to, generate, prompt

PYTHON = os.environ.get("LLMPERF_VLLM_PYTHON")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(PYTHON is None, reason="vLLM needs an environment of its own: make heavy"),
]

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
    """In float32, where rounding tips fewer near ties."""
    backend, chosen = choose("vllm", SMALL | options, PYTHON)
    spec = ModelSpec("synthetic:llama-160m", "F32")
    return prepare(spec, backend, chosen, timeout_s=TIMEOUT_S, python=PYTHON)


def named(pids: Iterable[int]) -> list[Path]:
    """What has a name in shared memory, and would keep it, of what these processes have mapped."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    inodes = {int(line.split()[4]) for line in lines if f" {SHARED}/" in line}
    assert inodes, "vLLM's processes share memory"
    return [path for path in SHARED.iterdir() if path.stat().st_ino in inodes]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    pool = WorkerPool(tmp_path_factory.mktemp("workers"))
    yield pool
    pool.close()
    assert pool.bad_exits == []


@pytest.fixture(scope="module")
def model(pool: WorkerPool) -> LoadedModel:
    """One worker for all tests that do not spoil it."""
    return pool.load(loading(enable_prefix_caching=True))


@pytest.mark.parametrize(("prompt_tokens", "new_tokens"), [(1, 1), (8, 1), (1, 200), (100, 33)])
def test_exactly_the_tokens_asked_for_are_generated(
    prompt_tokens: int, new_tokens: int, model: LoadedModel
) -> None:
    answer = generate(model, prompt(prompt_tokens), new_tokens)
    assert answer.count == len(answer.token_ids) == len(answer.instants_ns) == new_tokens
    assert all(0 <= token < model.engine.vocab_size for token in answer.token_ids)


def test_a_request_fills_the_context_to_the_last_token_and_no_further(model: LoadedModel) -> None:
    assert model.engine.context_tokens == CONTEXT
    assert generate(model, prompt(CONTEXT - 16), 16).count == 16
    with pytest.raises(EngineRefusal, match="257 tokens asked for, the context holds 256"):
        generate(model, prompt(CONTEXT - 15), 16)


def test_nothing_of_an_earlier_request_is_reused(model: LoadedModel) -> None:
    a, b = prompt(64, seed=1), prompt(64, seed=2)
    first = generate(model, a, 24).token_ids
    assert generate(model, a, 24).token_ids == first
    assert generate(model, b, 24).token_ids != first
    generate(model, a[:40], 8)
    assert generate(model, a, 24).token_ids == first


def test_instants_grow_and_lie_within_the_request(model: LoadedModel) -> None:
    asked = time.perf_counter_ns()
    answer = generate(model, prompt(32), 64)
    instants = [asked, answer.started_ns, *answer.instants_ns, time.perf_counter_ns()]
    assert all(earlier < later for earlier, later in pairwise(instants))


@pytest.mark.parametrize("depth", [0, BLOCK])
def test_each_sequence_of_a_batch_goes_on_as_it_would_alone(depth: int, model: LoadedModel) -> None:
    prompts = [prompt(64, seed) for seed in range(SEQUENCES)]
    together = answer_to(model, Request(prompts=prompts, new_tokens=6, depth=depth))
    assert (together.count, len(together.instants_ns), len(together.token_ids)) == (6, 6, 18)
    alone = [answer_to(model, Request(prompts=[ids], new_tokens=6)).token_ids for ids in prompts]
    same = [together.token_ids[place::SEQUENCES] == ids for place, ids in enumerate(alone)]
    assert sum(same) >= 2, same


def test_a_batch_that_one_step_cannot_read_is_refused_with_the_cure(model: LoadedModel) -> None:
    prompts = [prompt(200, seed) for seed in range(SEQUENCES)]
    with pytest.raises(EngineRefusal, match="load with max_num_batched_tokens=600"):
        answer_to(model, Request(prompts=prompts, new_tokens=2))
    assert answer_to(model, Request(prompts=prompts[:2], new_tokens=2)).count == 2


def test_more_sequences_than_were_loaded_for_are_refused(model: LoadedModel) -> None:
    with pytest.raises(EngineRefusal, match="4 sequences asked for, the engine holds 3"):
        answer_to(model, Request(prompts=[prompt(8)] * 4, new_tokens=2))


def test_tokens_are_read_ahead_in_whole_blocks(model: LoadedModel) -> None:
    with pytest.raises(EngineRefusal, match="whole blocks of 32 tokens: ask for depth=64"):
        answer_to(model, Request(prompts=[prompt(100)], new_tokens=2, depth=70))
    answer = answer_to(model, Request(prompts=[prompt(200)], new_tokens=2, depth=6 * BLOCK))
    read_ahead_ns = answer.whole_ns - (answer.instants_ns[-1] - answer.started_ns)
    assert answer.count == 2
    assert read_ahead_ns > answer.instants_ns[0] - answer.started_ns, "192 tokens, and then 8"


def test_the_cache_is_as_large_as_the_sequences_need(model: LoadedModel) -> None:
    """And a block that vLLM keeps for itself; 12 layers of 12 heads of 64 keys and values."""
    tokens = SEQUENCES * CONTEXT + BLOCK
    assert model.options["kv_cache_memory_bytes"] == tokens * 12 * 12 * 64 * 2 * 4
    assert model.engine.build.endswith(f", KV cache of {tokens} tokens")
    assert model.engine.kv_element_bytes == model.engine.weight_element_bytes == 4.0


def test_memory_is_that_of_the_worker_and_its_children(model: LoadedModel) -> None:
    tree = read_tree(model.worker.pid)
    assert model.files is not None
    children = [each for each in tree.members if each.pid != model.worker.pid]
    assert max(each.peak_bytes or 0 for each in children) > model.files.weight_bytes


def test_a_killed_worker_leaves_nothing(model: LoadedModel, tmp_path: Path) -> None:
    """A fresh one, which gives the same tokens first, and reads nothing ahead without a cache."""
    others = WorkerPool(tmp_path)
    try:
        fresh = others.load(loading())
        ids = prompt(64)
        assert generate(fresh, ids, 16).token_ids == generate(model, ids, 16).token_ids
        with pytest.raises(EngineRefusal, match="load with enable_prefix_caching=True"):
            answer_to(fresh, Request(prompts=[prompt(64)], new_tokens=2, depth=BLOCK))
        family = psutil.Process(fresh.worker.pid).children(recursive=True)
        assert family, "vLLM computes in a child on a CPU"
        assert named([fresh.worker.pid, *(each.pid for each in family)]) == []
        os.kill(fresh.worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="vllm worker killed by SIGKILL"):
            generate(fresh, ids, 16)
        _, alive = psutil.wait_procs(family, GONE_WITHIN_S)
        assert alive == []
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
