from __future__ import annotations

import struct
from pathlib import Path

import gguf as reference
import pytest

from pytest_llmperf.models import BrokenModelFile, ModelNotHere
from pytest_llmperf.models.gguf import read_gguf
from pytest_llmperf.models.tensor_types import GGML_TYPES
from tests.unit.models import gguf_bytes as make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def broken(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(BrokenModelFile) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_whole_header_is_read(path: Path) -> None:
    path.write_bytes(make.small_model())
    header = read_gguf(path)
    assert header.metadata == {"general.architecture": "llama", "llama.context_length": 77}
    assert header.array_lengths == {"tokenizer.ggml.tokens": 3}
    norm, matrix = header.tensors
    assert (norm.name, norm.shape, norm.type_name, norm.bytes) == ("norm", (8,), "F32", 32)
    assert (matrix.type_name, matrix.bytes, matrix.elements) == ("Q4_0", 36, 64)
    assert matrix.offset == norm.offset + 32 == path.stat().st_size - 36


def test_it_reads_what_the_reference_package_writes(path: Path) -> None:
    writer = reference.GGUFWriter(path, "llama")
    writer.add_bool("flag", True)
    writer.add_uint64("large", 2**40)
    writer.add_int32("negative", -5)
    writer.add_float64("half", 0.5)
    writer.add_token_list([f"token {number}" for number in range(200_000)])
    writer.add_array("floats", [0.5] * 1000)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = read_gguf(path)
    assert header.metadata["flag"] is True
    assert [header.metadata[key] for key in ("large", "negative", "half")] == [2**40, -5, 0.5]
    assert header.array_lengths == {"tokenizer.ggml.tokens": 200_000, "floats": 1000}


def test_block_sizes_agree_with_the_reference_package() -> None:
    theirs = {int(kind): size for kind, size in reference.GGML_QUANT_SIZES.items()}
    ours = {number: (kind.elements, kind.bytes) for number, kind in GGML_TYPES.items()}
    # Q8_1 is never stored in a file, and the package still has the layout it once had in memory.
    del theirs[int(reference.GGMLQuantizationType.Q8_1)]
    assert {number: ours[number] for number in theirs} == theirs


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"", "an empty file"),
        (struct.pack("<Q", 90) + b'{"a":{}}', "a safetensors file"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\3\4abcdefgh", "zip archive"),
        (b"\0" * 600, "zeros"),
        (b"whatever it is", "b'whatever'"),
    ],
)
def test_another_file_is_called_by_its_name(path: Path, content: bytes, finding: str) -> None:
    assert finding in broken(path, content)


@pytest.mark.parametrize(
    ("version", "finding"),
    [(1, "version 1"), (9, "version 9"), (3 << 24, "big-endian GGUF on a little-endian machine")],
)
def test_other_versions_are_refused_by_name(path: Path, version: int, finding: str) -> None:
    assert finding in broken(path, make.file(version=version))


def test_a_file_cut_anywhere_is_called_truncated(path: Path) -> None:
    whole = make.small_model()
    for length in (6, 12, 70, 90, 130, 160, 200, len(whole) - 40, len(whole) - 1):
        assert "truncated" in broken(path, whole[:length]), length


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "more than 24 bytes can hold"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "metadata entries, more than"),
        (make.file([make.number("a", 1)] * 2), "'a' occurs twice"),
        (make.file([make.text("a") + struct.pack("<IB", 77, 0)]), "unknown type 77"),
        (make.file([make.text("a") + struct.pack("<IIQ", 9, 9, 1)]), "items of the unknown type 9"),
        (make.file([make.text("a") + struct.pack("<IIQ", 9, 8, 2**60)]), "more than the file"),
        (make.file([make.text("a") + struct.pack("<IIQ", 9, 4, 2**62)]), "truncated"),
        (make.file([make.text(b"\xff\xfe") + b"\0" * 64]), "not UTF-8"),
        (make.file([make.number("general.alignment", 24)]), "not a power of two"),
        (make.file([], [make.tensor("t", (8,), 0, 3)], b"\0" * 64), "not a multiple of 32"),
        (make.file([], [make.tensor("t", (8,), 0, 0)] * 2, b"\0" * 32), "'t' occurs twice"),
        (make.file([], [make.tensor("t", (), 0, 0)], b"\0" * 32), "0 dimensions"),
        (make.file([], [make.tensor("t", (33,), 2, 0)], b"\0" * 64), "blocks of 32"),
        (make.file([], [make.tensor("t", (2**62, 2**62), 0, 0)], b"\0" * 64), "truncated"),
        (
            make.file(
                [],
                [make.tensor("t", (16,), 0, 0), make.tensor("u", (8,), 0, 32)],
                b"\0" * 64,
            ),
            "32 into the next one",
        ),
    ],
)
def test_a_wrong_header_is_named_with_its_place(path: Path, content: bytes, finding: str) -> None:
    assert finding in broken(path, content)


def test_a_type_from_the_future_is_sized_by_its_neighbours(path: Path) -> None:
    tensors = [make.tensor("t", (64,), 99, 0), make.tensor("u", (8,), 0, 64)]
    path.write_bytes(make.file([], tensors, b"\0" * 96))
    future, known = read_gguf(path).tensors
    assert (future.type_name, future.bytes, known.bytes) == ("type 99", 64, 32)


def test_no_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelNotHere, match="no such file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(BrokenModelFile, match="a folder"):
        read_gguf(tmp_path)
