"""Does onnxruntime-genai do what it was asked to, and nothing beside?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.backends import Request
from pytest_llmperf.fit.engines import ENGINES
from pytest_llmperf.fit.size_of_files import size_of_files
from pytest_llmperf.models import BrokenModelFile, ModelSpec, resolve
from pytest_llmperf.models.synthetic import named_config
from pytest_llmperf.worker.errors import EngineRefusal
from tests.backends.conftest import Load
from tests.faults.processes import answer_to, generate, prompt

pytestmark = pytest.mark.engine


def test_options_in_force_are_reported_with_defaults_resolved(load: Load) -> None:
    model = load("onnxruntime", intra_op_num_threads=None)
    assert model.options["intra_op_num_threads"] == len(psutil.Process().cpu_affinity() or ())
    assert model.engine.build.startswith("onnxruntime 1.")
    assert model.engine.device == "cpu"
    assert model.engine.kv_element_bytes == 4.0


def test_threads_are_as_many_as_asked_for(load: Load) -> None:
    one, three = load("onnxruntime"), load("onnxruntime", intra_op_num_threads=3)
    for each in (one, three):
        generate(each, prompt(64), 4)
    running = [psutil.Process(each.worker.pid).num_threads() for each in (one, three)]
    assert running[1] == running[0] + 2


def test_a_token_that_ends_a_sequence_ends_nothing(load: Load, tmp_path: Path) -> None:
    usual = load("onnxruntime")
    tokens = generate(usual, prompt(32), 16).token_ids
    assert usual.files is not None
    folder = tmp_path / "ending"
    shutil.copytree(usual.files.path, folder)
    path = folder / "genai_config.json"
    settings = json.loads(path.read_text())
    settings["model"]["eos_token_id"] = tokens[4]
    path.write_text(json.dumps(settings))
    ending = load("onnxruntime", source=str(folder))
    assert generate(ending, prompt(32), 16).token_ids == tokens


def test_tokens_before_the_clock_change_nothing_of_the_answer(load: Load) -> None:
    model = load("onnxruntime")
    whole = generate(model, prompt(48), 8).token_ids
    deep = Request(prompts=[prompt(48)], new_tokens=8, depth=32)
    assert answer_to(model, deep).token_ids == whole


def test_depth_is_refused_for_a_batch(load: Load) -> None:
    deep = Request(prompts=[prompt(48), prompt(48, seed=2)], new_tokens=8, depth=32)
    with pytest.raises(EngineRefusal, match="reads the tokens of a batch in one piece"):
        answer_to(load("onnxruntime"), deep)


def test_a_batch_gives_the_tokens_of_each_sequence_alone(load: Load) -> None:
    model = load("onnxruntime", quantization="F32")
    prompts = [prompt(32, seed=seed) for seed in (1, 2, 3)]
    together = answer_to(model, Request(prompts=prompts, new_tokens=6)).token_ids
    alone = [generate(model, each, 6).token_ids for each in prompts]
    assert [together[index::3] for index in range(3)] == alone


def test_a_broken_graph_is_refused_before_a_worker_starts(tmp_path: Path) -> None:
    files = resolve(ModelSpec("synthetic:llama-15m", "INT4"), "onnx")
    folder = tmp_path / "broken"
    shutil.copytree(files.path, folder)
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BrokenModelFile, match=r"model\.onnx.* is no ONNX graph"):
        resolve(ModelSpec(str(folder)), "onnx")


@pytest.mark.parametrize("quantization", ["INT4", "F32"])
@pytest.mark.parametrize("name", ["llama-15m", "llama-160m"])
def test_planned_sizes_are_those_of_the_files(name: str, quantization: str) -> None:
    spec = ModelSpec(f"synthetic:{name}", quantization)
    held = size_of_files(resolve(spec, "onnx"))
    planned = ENGINES["onnxruntime"].size(named_config(spec)[1], quantization)
    assert planned.weights.total == pytest.approx(held.weights.total, rel=0.002)
    assert planned.weights.tables == held.weights.tables
    assert planned.inner == held.inner
