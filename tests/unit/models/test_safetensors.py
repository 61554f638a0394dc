from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.models import BrokenModelFile, ModelNotHere
from pytest_llmperf.models.safetensors import (
    INDEX,
    file_names,
    read_folder,
    read_safetensors,
)


def content(entries: Any, data: bytes = b"") -> bytes:
    head = json.dumps(entries).encode()
    return len(head).to_bytes(8, "little") + head + data


def entry(begin: int = 0, end: int = 16, **changes: Any) -> dict[str, Any]:
    return {"dtype": "BF16", "shape": [2, 4], "data_offsets": [begin, end]} | changes


def raw(head: bytes, length: int | None = None) -> bytes:
    return (len(head) if length is None else length).to_bytes(8, "little") + head


WHOLE = content({"__metadata__": {"format": "pt"}, "t": entry()}, b"\0" * 16)


def test_tensors_have_type_shape_and_place(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(WHOLE)
    (tensor,) = read_safetensors(path)
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.bytes) == ("t", "BF16", (2, 4), 16)
    assert tensor.offset == len(WHOLE) - 16
    assert tensor.elements == 8


@pytest.mark.parametrize(
    ("whole", "finding"),
    [
        (b"", "an empty file"),
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (b"<html>no</html>", "an HTML page"),
        (WHOLE[:-1], "truncated: tensor 't' ends"),
        (WHOLE[:40], "truncated: the header ends"),
        (b"\x05" + b"\0" * 7 + b"{abc}", "not valid JSON"),
        (content({"t": entry(shape=[3, 4])}, b"\0" * 16), "'t' of BF16 [3, 4] has 16 bytes"),
        (content({"t": entry(0, -16)}, b"\0" * 16), "bad entry (data_offsets [0, -16])"),
        (content({"t": entry(16, 0)}, b"\0" * 16), "bad entry (data_offsets [16, 0])"),
        (content({"t": entry(data_offsets=[0, 8, 16])}, b"\0" * 16), "bad entry (data_offsets"),
        (content({"t": entry(0, 2**70)}, b"\0" * 16), "bad entry (data_offsets"),
        (content({"t": entry(shape=[2.0, 4])}, b"\0" * 16), "bad entry (shape [2.0, 4])"),
        (content({"t": entry(shape=[True, 8])}, b"\0" * 16), "bad entry (shape [True, 8])"),
        (content({"t": entry(shape=["2", 4])}, b"\0" * 16), "bad entry (shape ['2', 4])"),
        (content({"t": entry(shape=[-2, -4])}, b"\0" * 16), "bad entry (shape [-2, -4])"),
        (content({"t": entry(shape=[1] * 999)}, b"\0" * 16), "bad entry (shape [1, 1, 1"),
        (content({"t": entry(dtype="F128")}, b"\0" * 16), "'t' is of the unknown type 'F128'"),
        (content({"t": entry(dtype=["BF16"])}, b"\0" * 16), "unknown type ['BF16']"),
        (content({"t": entry(), "u": entry()}, b"\0" * 16), "'u' reaches back 16 bytes"),
        (content({"t": entry(), "u": entry(8, 24)}, b"\0" * 24), "'u' reaches back 8 bytes"),
        (content({"t": entry(8, 24)}, b"\0" * 24), "the 8 bytes before tensor 't' belong to none"),
        (content({"t": entry()}, b"\0" * 17), "the last 1 bytes belong to no tensor"),
        (content({"t": entry(0, 2**40, shape=[2**39])}, b"\0" * 16), "truncated: tensor 't' ends"),
        (content({"__metadata__": 3}), "__metadata__"),
        (content({"__metadata__": "a"}), "__metadata__"),
        (content({"__metadata__": {"a": {}}}), "__metadata__"),
        (raw(b'{"t": 1, "t": 2}'), "the key 't' occurs twice"),
        (raw(b'{"a": {"b": 1, "b": 2}}'), "the key 'b' occurs twice"),
        (raw(b'{"\\ud800": 1}'), "the key '\\ud800' is not Unicode"),
        (raw(b'{"t": NaN}'), "NaN is no number"),
        (raw(b'{"t": ' + b"9" * 5000 + b"}"), "not valid JSON"),
        (raw(b'{"t": ' + b"[" * 100_000), "nested too deeply"),
        (raw(b'{"t": "\xff"}'), "not valid JSON"),
        (raw(b"{}", 2**63), "something that begins with"),
        (raw(b"{}", 100_000_001), "not a safetensors file"),
        (raw(b"{}", 99_999_999), "truncated: the header ends at byte 100000007"),
        (content({"t": {"dtype": "F32"}}), "bad entry"),
        (content({"t": entry(shape=None)}), "bad entry"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path: Path, whole: bytes, finding: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole)
    with pytest.raises(BrokenModelFile) as caught:
        read_safetensors(path)
    assert finding in str(caught.value)


def test_shards_are_read_together_and_a_missing_one_is_named(tmp_path: Path) -> None:
    places = {"t": "model-1.safetensors", "u": "model-2.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    for name, shard in places.items():
        (tmp_path / shard).write_bytes(content({name: entry()}, b"\0" * 16))
    assert [tensor.file for tensor in read_folder(tmp_path)] == sorted(places.values())
    stranger = content({"v": entry()}, b"\0" * 16)
    (tmp_path / "model-2.safetensors").write_bytes(stranger)
    with pytest.raises(BrokenModelFile, match=r"'u' is not in shard model-2"):
        read_folder(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(BrokenModelFile, match=r"model-2\.safetensors is missing"):
        read_folder(tmp_path)


def test_what_the_format_allows_is_read(tmp_path: Path) -> None:
    """Empty tensors, tensors in any order, padding, fields from the future, no metadata."""
    entries = {
        "second": entry(16, 32, note="from the future"),
        "empty": entry(16, 16, shape=[0, 4]),
        "first": entry(0, 16),
        "number": entry(32, 34, shape=[]),
        "amd": entry(34, 36, shape=[2], dtype="F8_E4M3FNUZ"),
        "__metadata__": None,
    }
    head = json.dumps(entries).encode() + b"   "
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw(head) + b"\0" * 36)
    assert [tensor.bytes for tensor in read_safetensors(path)] == [16, 0, 16, 2, 2]


def test_a_tensor_in_another_shard_than_the_index_says_is_named(tmp_path: Path) -> None:
    places = {"t": "1.safetensors", "u": "2.safetensors"}
    for name, shard in (("u", "1.safetensors"), ("t", "2.safetensors")):
        (tmp_path / shard).write_bytes(content({name: entry()}, b"\0" * 16))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    finding = r"'t' is not in shard 1\.safetensors but in 2\.safetensors"
    with pytest.raises(BrokenModelFile, match=finding):
        read_folder(tmp_path)


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    for shard in ("1.safetensors", "2.safetensors"):
        (tmp_path / shard).write_bytes(WHOLE)
    places = {"t": "1.safetensors", "u": "2.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(BrokenModelFile, match=r"2\.safetensors: tensor 't' is also in 1\.safet"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "shard",
    ["../x", "..", "", "a/b", "/etc/passwd", "a\\b", "C:x", "a\0b", "x" * 5000, "\ud800", 3],
)
def test_an_index_cannot_leave_its_folder(tmp_path: Path, shard: str | int) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"t": shard}}))
    with pytest.raises(BrokenModelFile, match="which is no file name"):
        read_folder(tmp_path)
    with pytest.raises(BrokenModelFile, match="which is no file name"):
        file_names(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "{}",
        "nonsense",
        '{"weight_map": []}',
        '{"weight_map": {"t": "1.safetensors", "t": "2.safetensors"}}',
        '{"weight_map": ' + '{"a":' * 100_000,
    ],
)
def test_a_bad_index_is_named(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(BrokenModelFile, match=INDEX):
        read_folder(tmp_path)


def test_an_empty_folder_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotHere, match="no such file"):
        read_folder(tmp_path)


def test_a_pipe_and_a_folder_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(BrokenModelFile, match="a pipe or device"):
        read_folder(tmp_path)
    with pytest.raises(BrokenModelFile, match="a folder, not a file"):
        read_safetensors(tmp_path)


def test_a_large_header_that_is_no_text_costs_one_piece_of_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for filling, finding in ((b"", "it holds zeros"), (b"\xff", "can't decode byte")):
        path.write_bytes(raw(b"{" + filling, 99_000_000))
        os.truncate(path, 200_000_000)
        tracemalloc.start()
        with pytest.raises(BrokenModelFile, match=finding):
            read_safetensors(path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < 10e6
