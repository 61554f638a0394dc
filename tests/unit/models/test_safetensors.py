from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.models import BrokenModelFile, ModelNotHere
from pytest_llmperf.models.safetensors import INDEX, read_folder, read_safetensors


def content(entries: Any, data: bytes = b"") -> bytes:
    head = json.dumps(entries).encode()
    return len(head).to_bytes(8, "little") + head + data


def entry(begin: int = 0, end: int = 16, **changes: Any) -> dict[str, Any]:
    return {"dtype": "BF16", "shape": [2, 4], "data_offsets": [begin, end]} | changes


WHOLE = content({"__metadata__": {"format": "pt"}, "t": entry()}, b"\0" * 16)


def test_tensors_have_type_shape_and_place(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(WHOLE)
    (tensor,) = read_safetensors(path)
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.bytes) == ("t", "BF16", (2, 4), 16)
    assert tensor.offset == len(WHOLE) - 16
    assert tensor.elements == 8


@pytest.mark.parametrize(
    ("raw", "finding"),
    [
        (b"", "an empty file"),
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (b"<html>no</html>", "an HTML page"),
        (WHOLE[:-1], "truncated: tensor 't' ends"),
        (WHOLE[:40], "truncated: the header ends"),
        (b"\x05" + b"\0" * 7 + b"{abc}", "not valid JSON"),
        (content({"t": entry(shape=[3, 4])}, b"\0" * 16), "'t' of BF16 [3, 4] has 16 bytes"),
        (content({"t": entry(0, -16)}, b"\0" * 16), "negative"),
        (content({"t": {"dtype": "F32"}}), "bad entry"),
        (content({"t": entry(shape=None)}), "bad entry"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path: Path, raw: bytes, finding: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(BrokenModelFile) as caught:
        read_safetensors(path)
    assert finding in str(caught.value)


def test_shards_are_read_together_and_a_missing_one_is_named(tmp_path: Path) -> None:
    places = {"t": "model-1.safetensors", "u": "model-2.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    for name, shard in places.items():
        (tmp_path / shard).write_bytes(content({name: entry()}, b"\0" * 16))
    assert [tensor.file for tensor in read_folder(tmp_path)] == sorted(places.values())
    (tmp_path / "model-2.safetensors").write_bytes(WHOLE)
    with pytest.raises(BrokenModelFile, match=r"'u' is not in shard model-2"):
        read_folder(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(BrokenModelFile, match=r"model-2\.safetensors is missing"):
        read_folder(tmp_path)


@pytest.mark.parametrize("index", ["[]", "{}", "nonsense", '{"weight_map": {"t": "../x"}}'])
def test_a_bad_index_is_named(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(BrokenModelFile, match=INDEX):
        read_folder(tmp_path)


def test_an_empty_folder_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotHere, match="no such file"):
        read_folder(tmp_path)
