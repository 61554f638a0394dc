"""Is a training step what it says, and checkpointing seen at work?"""

from __future__ import annotations

import json
import math
import re
import shutil
import struct
from pathlib import Path

import pytest

from pytest_llmperf.backends import Request, find_backend
from pytest_llmperf.backends.timeline import UNKNOWN
from pytest_llmperf.cli.doctor import examine
from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.models.safetensors import read_folder
from pytest_llmperf.worker.errors import EngineRefusal
from tests.backends.conftest import Load
from tests.faults.processes import VOCABULARY, answer_to, prompt

pytestmark = pytest.mark.engine

TRAINING = "transformers-training"
ALONE = {"num_threads": 1}


GPT2 = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 128,
    "resid_pdrop": 0.1,
}


@pytest.fixture
def dropping(tmp_path: Path) -> str:
    """A model that leaves out a tenth of what its layers say while it is trained."""
    path = tmp_path / "gpt2.json"
    path.write_text(json.dumps(GPT2), encoding="utf-8")
    return f"synthetic:{path}"


def spoiled(source: str, tensor: str, number: float, folder: Path) -> str:
    """The same model with another number at the end of the tensor whose name ends so."""
    broken = folder / "broken"
    shutil.copytree(resolve(ModelSpec(source, "F32"), "hf").path, broken)
    (place,) = (each for each in read_folder(broken) if each.name.endswith(tensor))
    with (broken / place.file).open("r+b") as file:
        file.seek(place.offset + place.bytes - 4)
        file.write(struct.pack("<f", number))
    return str(broken)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_request_is_one_step(batch: int, load: Load) -> None:
    model = load(TRAINING, **ALONE)
    prompts = [prompt(16, seed) for seed in range(batch)]
    answer = answer_to(model, Request(prompts=prompts, new_tokens=1))
    assert answer.token_ids == [UNKNOWN] * batch
    assert answer.count == 1
    assert answer.instants_ns[0] > answer.started_ns


def test_weights_are_trained_in_a_type_that_keeps_a_small_step(load: Load) -> None:
    model = load(TRAINING, **ALONE)
    assert model.options["dtype"] == "float32"
    assert model.engine.weight_element_bytes == 4
    assert "gradient_difference" not in model.options


def test_checkpointing_computes_the_same_gradients(load: Load) -> None:
    model = load(TRAINING, **ALONE, gradient_checkpointing=True)
    assert model.options["gradient_checkpointing"] is True
    difference = model.options["gradient_difference"]
    assert isinstance(difference, float)
    assert 0 <= difference < 1e-4
    answer_to(model, Request(prompts=[prompt(16)], new_tokens=1))


def test_dropout_does_not_make_other_gradients(load: Load, dropping: str) -> None:
    model = load(TRAINING, source=dropping, **ALONE, gradient_checkpointing=True)
    difference = model.options["gradient_difference"]
    assert isinstance(difference, float)
    assert 0 <= difference < 1e-4


def test_each_step_learns_what_it_reads(load: Load) -> None:
    """By the worker's log: of a prompt that is told again the loss falls."""
    model = load(TRAINING, **ALONE)
    for _ in range(4):
        answer_to(model, Request(prompts=[prompt(64)], new_tokens=1))
    losses = [float(each) for each in re.findall(r"loss: (\S+)", model.worker.log.read_text())][-4:]
    assert losses == sorted(set(losses), reverse=True)
    assert len(losses) == 4


@pytest.mark.parametrize(
    ("tensor", "number", "words"),
    [
        ("ln_f.weight", math.nan, "the loss of this training step is nan"),
        ("wpe.weight", math.inf, "left weights that are no finite numbers"),  # nothing reads it
    ],
)
def test_a_step_that_makes_no_finite_numbers_is_rejected(
    tensor: str, number: float, words: str, load: Load, dropping: str, tmp_path: Path
) -> None:
    broken = spoiled(dropping, tensor, number, tmp_path)
    answer = answer_to(
        load(TRAINING, source=broken, **ALONE), Request(prompts=[prompt(16)], new_tokens=1)
    )
    assert answer.count == 1
    assert words in str(answer.rejected)


def test_gradients_that_are_no_finite_numbers_are_not_compared(
    load: Load, dropping: str, tmp_path: Path
) -> None:
    broken = spoiled(dropping, "ln_f.weight", math.nan, tmp_path)
    with pytest.raises(EngineRefusal, match="gradients of a trial are no finite numbers"):
        load(TRAINING, source=broken, **ALONE, gradient_checkpointing=True)


@pytest.mark.parametrize(("new_tokens", "depth"), [(2, 0), (1, 4)])
def test_more_than_a_step_is_refused(new_tokens: int, depth: int, load: Load) -> None:
    model = load(TRAINING, **ALONE)
    with pytest.raises(EngineRefusal, match="ask for new_tokens=1 and depth=0"):
        answer_to(model, Request(prompts=[prompt(16)], new_tokens=new_tokens, depth=depth))


def test_a_layer_that_is_not_run_again_is_seen() -> None:
    """What counts the layers, on a model of torch alone whose flag does nothing."""
    torch = pytest.importorskip("torch")
    from pytest_llmperf.backends.transformers_training import counting

    class Layer(torch.nn.Module):  # type: ignore[misc, name-defined] # torch is not looked into
        def __init__(self) -> None:
            super().__init__()
            self.gradient_checkpointing = True
            self.part = torch.nn.Linear(4, 4)

        def forward(self, values: object) -> object:
            return self.part(values)

    model = torch.nn.Sequential(Layer(), Layer())
    with counting(model) as runs:
        model(torch.ones(4)).sum().backward()
    assert runs == {0: 1, 1: 1}


def test_the_doctor_has_it_take_a_step() -> None:
    health = examine(find_backend(TRAINING))
    assert health.status == "works"
    assert health.detail.startswith("takes a step (torch ")
