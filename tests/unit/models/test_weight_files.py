"""Which files are the weights, were they touched, and are they in the page cache?"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmperf.models import ModelFiles
from pytest_llmperf.models.weight_files import (
    NotTold,
    cached_share,
    changed_since,
    stamp,
    weight_paths,
)

PAGE = os.sysconf("SC_PAGESIZE")


def files_at(path: Path, file_format: str = "gguf", weight_bytes: int = 1) -> ModelFiles:
    return ModelFiles(
        path=str(path),
        format=file_format,  # type: ignore[arg-type] # parametrized text
        weight_bytes=weight_bytes,
        parameters=1,
        bits_per_weight=8,
        type_mix={},
        quantization="Q8_0",
        architecture="llama",
        vocab_size=None,
        context_length=None,
        synthetic=False,
    )


def test_all_shards_of_a_model_are_its_weights(tmp_path: Path) -> None:
    names = [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    for name in [*names, "m-00001-of-00002.gguf", "m-x-00002-of-00003.gguf", "other.gguf"]:
        (tmp_path / name).touch()
    assert [path.name for path in weight_paths(files_at(tmp_path / names[0]))] == names


def test_brackets_in_a_name_are_letters(tmp_path: Path) -> None:
    first = tmp_path / "m[1]-00001-of-00001.gguf"
    assert weight_paths(files_at(first)) == [first]


def test_a_folders_weights_are_those_of_its_index(tmp_path: Path) -> None:
    """Some publishers put the same weights beside them in a form of their own."""
    index = {"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "consolidated.safetensors").touch()
    found = [path.name for path in weight_paths(files_at(tmp_path, "hf"))]
    assert found == ["model-1.safetensors", "model-2.safetensors"]


def test_a_folder_without_an_index_has_one_file(tmp_path: Path) -> None:
    assert weight_paths(files_at(tmp_path, "hf")) == [tmp_path / "model.safetensors"]


def test_a_file_left_alone_has_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    before = stamp(files_at(path))
    path.read_bytes()
    assert changed_since(before) is None


def replaced(path: Path) -> None:
    beside = path.with_name("new")
    beside.write_bytes(b"weights")
    beside.rename(path)


def written(path: Path) -> None:
    path.write_bytes(b"others!")
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (replaced, "m.gguf was replaced"),
        (written, "m.gguf was written to"),
        (Path.unlink, "m.gguf is gone (No such file or directory)"),
    ],
)
def test_what_happened_to_a_file_is_said(tmp_path: Path, happens: object, said: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    before = stamp(files_at(path))
    happens(path)  # type: ignore[operator] # a function of the file
    assert changed_since(before) == said


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder whose files have a disk behind them, which /tmp need not have."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def test_what_was_just_read_is_cached_and_what_was_dropped_is_not(on_disk: Path) -> None:
    path = on_disk / "m.gguf"
    path.write_bytes(os.urandom(64 * PAGE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        file.read()
        assert cached_share([path]) == 1.0
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert cached_share([path]) == 0.0


def test_empty_files_have_no_share(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    with pytest.raises(NotTold, match="empty"):
        cached_share([tmp_path / "m.gguf"])


def test_a_file_that_is_gone_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(NotTold, match=r"m\.gguf: No such file"):
        cached_share([tmp_path / "m.gguf"])


def test_a_file_of_another_user_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NotTold, match=r"m\.gguf belongs to another user"):
        cached_share([path])


def test_other_systems_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(NotTold, match="not looked at on darwin"):
        cached_share([tmp_path])


def test_a_stamp_is_of_every_shard(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-{number:05}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    before = stamp(files_at(first))
    assert [each.size_bytes for each in before] == [1, 1]
    second.write_bytes(b"22")
    assert changed_since(before) == "m-00002-of-00002.gguf was written to"
