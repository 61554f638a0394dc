"""Does transformers really use what it was asked to use?"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.models.safetensors import SINGLE
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import WorkerPool
from tests.backends.conftest import Load
from tests.faults.processes import generate, loading, prompt

pytestmark = pytest.mark.engine


def test_options_in_force_are_reported_with_defaults_resolved(load: Load) -> None:
    model = load("transformers", device="cpu", num_threads=None)
    assert model.options["dtype"] == "bfloat16", "auto: as in the file"
    assert model.options["attn_implementation"] == "sdpa"
    assert model.options["device"] == "cpu"
    assert model.options["num_threads"] == len(psutil.Process().cpu_affinity() or ())
    assert model.engine.build.startswith("torch 2.")


def test_chosen_options_are_in_force(load: Load) -> None:
    model = load(
        "transformers", device="cpu", dtype="float32", attn_implementation="eager", num_threads=1
    )
    assert model.options["dtype"] == "float32"
    assert model.options["attn_implementation"] == "eager"
    assert model.options["num_threads"] == 1
    default = load("transformers", device="cpu", num_threads=None)
    for each in (model, default):
        generate(each, prompt(64), 4)
    one, several = (psutil.Process(m.worker.pid).num_threads() for m in (model, default))
    assert one < several or default.options["num_threads"] == 1


def test_an_unknown_attention_is_refused_with_the_known_ones(load: Load) -> None:
    with pytest.raises(EngineRefusal, match=r'attn_implementation="nonsense".*sdpa'):
        load("transformers", attn_implementation="nonsense")


def test_accelerate_shares_the_layers_within_what_is_allowed(load: Load) -> None:
    model = load("transformers", device_map="auto", max_memory="cpu=4GiB")
    assert (model.options["device_map"], model.options["device"]) == ("auto", "cpu")
    assert generate(model, prompt(64), 4).count == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_memory": "cpu=4GiB"}, "max_memory needs a device_map"),
        ({"offload_folder": "/tmp"}, "offload_folder needs a device_map"),
        ({"device_map": "auto", "max_memory": "4GiB"}, "'4GiB' is not of the form 0=6GiB, cpu"),
        ({"device_map": "auto", "device": "cpu"}, "contradict each other: leave one out"),
        ({"device_map": "auto", "max_memory": "cpu=1MiB"}, "leaves layers to the disk|offload"),
    ],
)
def test_sharing_that_means_nothing_is_refused(
    options: dict[str, object], words: str, load: Load
) -> None:
    with pytest.raises(EngineRefusal, match=words):
        load("transformers", **options)


def test_layers_on_the_disk_are_read_from_there_when_that_is_asked_for(
    load: Load, tmp_path: Path
) -> None:
    plain = load("transformers", quantization="F32", device="cpu")
    model = load(
        "transformers",
        quantization="F32",
        device_map="auto",
        max_memory="cpu=30MiB",
        offload_folder=str(tmp_path / "offloaded"),
    )
    assert model.engine.device.endswith("disk")
    assert generate(model, prompt(64), 8).token_ids == generate(plain, prompt(64), 8).token_ids


def test_a_disk_that_is_not_needed_is_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(EngineRefusal, match="is not used: all layers fit into"):
        load(
            "transformers",
            device_map="auto",
            max_memory="cpu=4GiB",
            offload_folder=str(tmp_path),
        )


def test_flash_attention_without_its_package_is_refused_with_the_reason(load: Load) -> None:
    if importlib.util.find_spec("flash_attn") is not None:
        pytest.skip("flash_attn is installed")
    with pytest.raises(EngineRefusal, match="package for FlashAttention2 doesn't seem to be inst"):
        load("transformers", attn_implementation="flash_attention_2")


def test_weights_that_are_gone_are_told_in_words(pool: WorkerPool, tmp_path: Path) -> None:
    for each in Path(resolve(ModelSpec("synthetic:llama-15m", "F32"), "hf").path).iterdir():
        (tmp_path / each.name).symlink_to(each)
    there = loading("transformers", source=str(tmp_path))
    (tmp_path / SINGLE).unlink()
    with pytest.raises(
        EngineRefusal, match=rf"could not load {tmp_path}: .* no file named {SINGLE}"
    ):
        pool.load(there)
