"""Synthetic models as files: what is written, kept, found again and refused."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import filelock
import gguf
import numpy as np
import pytest

from pytest_llmperf.models import (
    BrokenModelFile,
    BuildFailed,
    Format,
    ModelFiles,
    ModelNotHere,
    ModelSpec,
    NoSpace,
    RequirementMissing,
    UnknownModel,
    UnknownQuantization,
    UnsupportedModel,
    resolve,
    synthetic,
)
from tests.unit.models.conftest import ConfigWriter


def digest(files: ModelFiles) -> str:
    path = Path(files.path)
    parts = [path] if path.is_file() else sorted(path.iterdir())
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


@pytest.mark.parametrize("quantization", ["F32", "F16", "BF16"])
def test_both_formats_hold_the_same_numbers(tiny: ConfigWriter, quantization: str) -> None:
    spec = ModelSpec(tiny(model_type="qwen2"), quantization)
    folder, file = resolve(spec, "hf"), resolve(spec, "gguf")
    assert folder.parameters == file.parameters
    assert folder.quantization == file.quantization == quantization
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file.path).tensors}
    raw = (Path(folder.path) / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    name = "model.layers.1.self_attn.q_proj.weight"
    begin, end = json.loads(raw[8 : 8 + length])[name]["data_offsets"]
    # qwen2 keeps the order of rows, so that the same numbers are the same bytes.
    assert tensors["blk.1.attn_q.weight"].data.tobytes() == raw[8 + length :][begin:end]


def test_numbers_are_normal_and_the_same_in_all_plain_types(tiny: ConfigWriter) -> None:
    values = {}
    for quantization in ("F32", "F16"):
        reader = gguf.GGUFReader(resolve(ModelSpec(tiny(), quantization), "gguf").path)
        tensors = {tensor.name: tensor.data for tensor in reader.tensors}
        values[quantization] = tensors["output.weight"].astype(np.float32)
    assert np.array_equal(values["F32"], values["F16"])
    assert values["F32"].std() == pytest.approx(1 / 8, rel=0.02)
    assert abs(values["F32"].mean()) < 0.005
    assert not values["F32"][257].any()


@pytest.mark.parametrize(("format_", "quantization"), [("hf", "BF16"), ("gguf", "F16")])
def test_the_seed_decides_every_byte(
    tiny: ConfigWriter, tmp_path: Path, format_: Format, quantization: str
) -> None:
    source = tiny()
    first, again, other = (
        resolve(ModelSpec(source, quantization, seed), format_, cache=tmp_path / name)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert digest(first) == digest(again) != digest(other)


def test_a_built_model_is_found_again_without_a_builder(
    tiny: ConfigWriter, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[str] = []
    spec = ModelSpec(tiny())
    first = resolve(spec, "gguf", progress=lambda stage, _: stages.append(stage))
    assert stages
    assert first.synthetic
    assert Path(first.path).parent.parent == cache / "models"
    assert Path(first.path).parent.name.startswith("tiny-F16-")
    monkeypatch.setattr(synthetic, "run_builder", None)
    assert resolve(spec, "gguf") == first


def test_a_damaged_entry_is_built_again(tiny: ConfigWriter) -> None:
    spec = ModelSpec(tiny())
    first = resolve(spec, "gguf")
    before = digest(first)
    Path(first.path).write_bytes(Path(first.path).read_bytes()[:-100])
    assert digest(resolve(spec, "gguf")) == before


def test_the_callers_process_loads_no_engine(tiny: ConfigWriter) -> None:
    program = (
        "import sys; from pytest_llmperf.models import ModelSpec, resolve\n"
        f"resolve(ModelSpec({tiny()!r}), 'gguf')\n"
        "print({'numpy', 'gguf', 'llama_cpp', 'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"


def test_a_full_disk_is_told_before_building(tiny: ConfigWriter, cache: Path) -> None:
    with pytest.raises(NoSpace, match=r"0\.00 GiB free .* needs about 0\.06 GiB.*LLMPERF_CACHE"):
        resolve(ModelSpec(tiny()), "gguf", free=lambda _: 1000)
    assert [path.name for path in (cache / "models").iterdir()] == [".locks"]


def test_waiting_for_another_builder_has_an_end(tiny: ConfigWriter, cache: Path) -> None:
    spec = ModelSpec(tiny())
    entry = synthetic.SyntheticModel.of(spec, "gguf").entry(cache / "models")
    locks = cache / "models" / ".locks"
    locks.mkdir(parents=True)
    stages: list[str] = []
    with (
        filelock.FileLock(locks / f"{entry.folder.name}.lock"),
        pytest.raises(BuildFailed, match="another process"),
    ):
        resolve(spec, "gguf", timeout_s=0.05, progress=lambda stage, fraction: stages.append(stage))
    assert stages == ["waiting for another build"]


@pytest.mark.parametrize(
    ("changes", "quantization", "error", "finding"),
    [
        ({"vocab_size": 100}, None, UnsupportedModel, "100 tokens is too small"),
        ({"model_type": "gpt_neox"}, None, UnsupportedModel, "'gpt_neox' cannot be written"),
        ({"hidden_act": "relu"}, None, UnsupportedModel, "activation is 'relu'"),
        ({"hidden_size": None}, None, BrokenModelFile, "'hidden_size' is missing"),
        ({}, "IQ1_S", UnknownQuantization, "importance matrix"),
    ],
)
def test_what_cannot_be_made_is_refused_before_building(
    tiny: ConfigWriter,
    cache: Path,
    changes: dict[str, object],
    quantization: str | None,
    error: type[Exception],
    finding: str,
) -> None:
    with pytest.raises(error, match=finding):
        resolve(ModelSpec(tiny(**changes), quantization), "gguf")
    assert not cache.exists()


def test_a_gguf_quantization_is_no_hugging_face_folder(tiny: ConfigWriter) -> None:
    with pytest.raises(UnsupportedModel, match="Q4_K_M is a GGUF quantization"):
        resolve(ModelSpec(tiny(), "Q4_K_M"), "hf")


@pytest.mark.parametrize(
    ("quantization", "file_format", "words"),
    [
        ("Q4_K_M", "onnx", "Q4_K_M is a GGUF quantization; a folder of onnxruntime-genai holds"),
        ("INT4", "gguf", "INT4 is an onnxruntime-genai quantization; a GGUF file holds one of F32"),
        ("BF16", "onnx", "holds one of F32, INT4"),
    ],
)
def test_each_format_holds_its_own_quantizations(
    quantization: str, file_format: Format, words: str, tiny: ConfigWriter
) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        resolve(ModelSpec(tiny(), quantization), file_format)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="llama-15m"):
        resolve(ModelSpec("synthetic:llama-15n"), "gguf")
    with pytest.raises(ModelNotHere, match=r"none\.json: no such file"):
        resolve(ModelSpec(f"synthetic:{tmp_path}/none.json"), "gguf")


def test_without_the_quantizer_the_install_line_is_given(
    tiny: ConfigWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    with pytest.raises(RequirementMissing, match=r"pip install 'pytest-llmperf\[llama-cpp\]'"):
        resolve(ModelSpec(tiny(), "Q8_0"), "gguf")
