"""Files that the user has: in a folder, in Hugging Face's cache, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_llmperf.models import (
    BrokenModelFile,
    InvalidSource,
    ModelError,
    ModelNotHere,
    ModelSpec,
    ModelUnavailable,
    UnknownQuantization,
    UnsupportedModel,
    resolve,
)
from tests.unit.models import gguf_bytes as make
from tests.unit.models.conftest import TINY
from tests.unit.models.test_safetensors import WHOLE, content, entry


def hf_folder(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TINY | changes))
    (folder / "model.safetensors").write_bytes(WHOLE)
    return folder


def test_a_gguf_file_is_described_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(make.small_model(general__file_type=2))
    found = resolve(ModelSpec(str(path)), "gguf")
    assert (found.quantization, found.architecture, found.synthetic) == ("Q4_0", "llama", False)
    assert (found.parameters, found.weight_bytes) == (72, 68)
    assert found.bits_per_weight == pytest.approx(68 * 8 / 72)
    assert found.type_mix == {"Q4_0": 64, "F32": 8}
    assert (found.vocab_size, found.context_length) == (3, 77)


def test_a_path_is_absolute_whatever_the_source_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(make.small_model())
    monkeypatch.chdir(tmp_path)
    assert resolve(ModelSpec("m.gguf"), "gguf").path == str(tmp_path / "m.gguf")


def test_a_file_is_never_taken_for_another_quantization(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(make.small_model(general__file_type=2))
    with pytest.raises(UnknownQuantization, match="holds Q4_0, not Q8_0"):
        resolve(ModelSpec(str(path), "Q8_0"), "gguf")


def test_a_folder_of_gguf_files_is_chosen_from_by_quantization(tmp_path: Path) -> None:
    for name, number in (("a", 2), ("b", 7)):
        (tmp_path / f"{name}.gguf").write_bytes(make.small_model(general__file_type=number))
    assert resolve(ModelSpec(str(tmp_path), "Q8_0"), "gguf").path.endswith("b.gguf")
    with pytest.raises(UnsupportedModel, match=r"a\.gguf \(Q4_0\), b\.gguf \(Q8_0\)"):
        resolve(ModelSpec(str(tmp_path)), "gguf")
    with pytest.raises(ModelNotHere, match="0 GGUF models of Q6_K"):
        resolve(ModelSpec(str(tmp_path), "Q6_K"), "gguf")


def test_a_hugging_face_folder_is_described(tmp_path: Path) -> None:
    found = resolve(ModelSpec(str(hf_folder(tmp_path / "m"))), "hf")
    assert (found.quantization, found.parameters, found.weight_bytes) == ("BF16", 8, 16)
    assert (found.architecture, found.vocab_size, found.context_length) == ("llama", 512, 256)


def test_packed_weights_go_by_their_own_name(tmp_path: Path) -> None:
    settings = {"quant_method": "gptq", "bits": 4}
    folder = hf_folder(tmp_path / "m", quantization_config=settings)
    assert resolve(ModelSpec(str(folder)), "hf").quantization == "gptq-4bit"


def test_the_wrong_format_is_told_from_a_missing_model(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m")
    file = tmp_path / "m.gguf"
    file.write_bytes(make.small_model())
    with pytest.raises(UnsupportedModel, match="format gguf was asked"):
        resolve(ModelSpec(str(folder)), "gguf")
    with pytest.raises(UnsupportedModel, match="wants a folder"):
        resolve(ModelSpec(str(file)), "hf")
    with pytest.raises(BrokenModelFile, match="a safetensors file"):
        resolve(ModelSpec(str(folder / "model.safetensors")), "gguf")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="pickled"):
        resolve(ModelSpec(str(folder)), "hf")


@pytest.mark.parametrize("config", ["", "[1]", '{"vocab_size": 3}'])
def test_a_bad_config_is_named(tmp_path: Path, config: str) -> None:
    folder = hf_folder(tmp_path / "m")
    (folder / "config.json").write_text(config)
    with pytest.raises(BrokenModelFile, match=r"config\.json"):
        resolve(ModelSpec(str(folder)), "hf")


def test_what_is_missing_can_be_told_from_what_is_broken(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no such file or folder"):
        resolve(ModelSpec(str(tmp_path / "none")), "gguf")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError) as caught:
        resolve(ModelSpec(str(tmp_path / "m.gguf")), "gguf")
    assert not isinstance(caught.value, ModelUnavailable)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_the_hub_cache_is_found_where_hugging_face_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    below = {"HF_HUB_CACHE": ".", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}[variable]
    repository = tmp_path / below / "models--org--name"
    hf_folder(repository / "snapshots" / "c0ffee")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    for source in ("hf:org/name", "hf:org/name@main", "hf:org/name@c0ffee"):
        assert resolve(ModelSpec(source), "hf").path.endswith("snapshots/c0ffee")
    with pytest.raises(ModelNotHere, match="hf download org/name --revision v2"):
        resolve(ModelSpec("hf:org/name@v2"), "hf")


def test_a_half_downloaded_repository_is_missing_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = hf_folder(tmp_path / "models--org--name" / "snapshots" / "c0ffee")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotHere, match="hf download org/name --revision c0ffee"):
        resolve(ModelSpec("hf:org/name@c0ffee"), "hf")
    (folder / "model.safetensors").write_bytes(content({"t": entry()}))
    with pytest.raises(BrokenModelFile, match="truncated"):
        resolve(ModelSpec("hf:org/name@c0ffee"), "hf")


def test_a_revision_cannot_leave_the_cache() -> None:
    with pytest.raises(InvalidSource):
        ModelSpec("hf:org/name@../../../etc")
