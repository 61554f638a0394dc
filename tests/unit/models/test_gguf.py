from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from pathlib import Path

import gguf as reference
import numpy as np
import pytest

from pytest_llmperf.models import BrokenModelFile, ModelNotHere, UnsupportedModel
from pytest_llmperf.models.describe import describe
from pytest_llmperf.models.gguf import read_gguf
from pytest_llmperf.models.gguf_bytes import LONGEST_ARRAY, LONGEST_TEXT, ByteOrder
from pytest_llmperf.models.tensor_types import GGML_TYPES
from tests.unit.models import gguf_bytes as make
from tests.unit.models import gguf_encoder as encoder

ONE = make.tensor("t", (8,), 0, 0)


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
    [
        (0, "version 0"),
        (1, "version 1"),
        (9, "version 9"),
        (9 << 24, "version 9"),
        (1 << 16, "256"),
    ],
)
def test_other_versions_are_refused_by_name(path: Path, version: int, finding: str) -> None:
    assert finding in broken(path, make.file(version=version))


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_and_byte_orders_say_the_same(
    path: Path, byte_order: ByteOrder, version: int
) -> None:
    path.write_bytes(encoder.model(byte_order, version).file())
    header = read_gguf(path)
    assert (header.version, header.byte_order) == (version, byte_order)
    assert header.is_native == (byte_order == sys.byteorder)
    assert header.metadata["general.name"] == "größe ✓ 😀"
    assert {header.metadata[f"number.{kind}"] for kind in encoder.FORMS} == {1}
    assert header.array_lengths["tokenizer.ggml.tokens"] == 4
    assert header.arrays == {
        "llama.attention.head_count_kv": (4, 8, 0, 2),
        "llama.attention.sliding_window_pattern": (True, False, True, True),
        "halves": (0.5, -1.5),
        "nothing": (),
    }
    assert [tensor.bytes for tensor in header.tensors] == [72, 32, 288, 64, 30]
    assert header.tensors[3].type_name == "type 99"
    assert header.tensors[2].shape == (256, 2, 1, 1)


def test_the_byte_order_of_other_machines_is_read_but_never_resolved(path: Path) -> None:
    path.write_bytes(encoder.model("big" if sys.byteorder == "little" else "little").file())
    assert not read_gguf(path).is_native
    with pytest.raises(UnsupportedModel, match="Convert the model on this machine"):
        describe(path, "gguf")


def test_the_reference_packages_big_endian_files_are_read(path: Path) -> None:
    writer = reference.GGUFWriter(path, "llama", endianess=reference.GGUFEndian.BIG)
    writer.add_array("heads", [1, 2, 3])
    writer.add_tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf(path)
    assert (header.byte_order, header.arrays["heads"]) == ("big", (1, 2, 3))
    assert [(each.name, each.shape, each.bytes) for each in header.tensors] == [("t", (3, 2), 24)]


def test_a_file_cut_at_any_byte_is_called_truncated(path: Path) -> None:
    whole = make.small_model()
    for length in range(4, len(whole)):
        message = broken(path, whole[:length])
        assert "truncated" in message or f"more than {length} bytes can hold" in message
    for length in range(1, 4):
        assert "not a GGUF file" in broken(path, whole[:length])


def test_long_arrays_and_long_texts_are_stepped_over_and_told(path: Path) -> None:
    made = encoder.Encoder()
    made.array("kept", encoder.UINT16, range(LONGEST_ARRAY))
    made.array("long", encoder.UINT16, range(LONGEST_ARRAY + 1))
    made.entry("tokenizer.huggingface.json", encoder.TEXT, "ü" * LONGEST_TEXT)
    made.entry("behind", encoder.TEXT, "x" * 3000)
    path.write_bytes(made.file())
    header = read_gguf(path)
    assert header.arrays == {"kept": tuple(range(LONGEST_ARRAY))}
    assert header.array_lengths == {"kept": LONGEST_ARRAY, "long": LONGEST_ARRAY + 1}
    assert header.long_texts == {"tokenizer.huggingface.json": 2 * LONGEST_TEXT}
    assert header.metadata == {"behind": "x" * 3000}


def test_what_is_kept_is_bounded_in_sum(path: Path) -> None:
    """A header of 24 MiB, in which nothing by itself is too long."""
    made = encoder.Encoder()
    for index in range(100):
        made.entry(f"text.{index}", encoder.TEXT, "x" * 200_000)
        made.array(f"array.{index}", encoder.UINT8, bytes(LONGEST_ARRAY))
    path.write_bytes(made.file())
    tracemalloc.start()
    header = read_gguf(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 20e6
    assert len(header.metadata) + len(header.long_texts) == len(header.array_lengths) == 100
    assert 20 <= len(header.metadata) < 25
    assert len(header.arrays) == 64


def test_texts_that_reach_over_what_is_read_at_a_time(path: Path) -> None:
    """Texts of many lengths, some longer than the reader's stretches of 1 MiB."""
    made = encoder.Encoder()
    lengths = [1 << 20, 0, (1 << 20) - 8, 3, (1 << 20) - 9, (1 << 21) + 1, *range(5000)]
    made.array("texts", encoder.TEXT, ["x" * length for length in lengths])
    made.entry("behind", encoder.UINT32, 7)
    path.write_bytes(made.file())
    header = read_gguf(path)
    assert header.array_lengths == {"texts": len(lengths)}
    assert header.metadata == {"behind": 7}


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
        (make.file([make.text("a") + struct.pack("<IIQ", 9, 0, 2**63)]), "truncated"),
        (make.file([make.text("a") + struct.pack("<IIQQ", 9, 8, 1, 2**64 - 1)]), "truncated"),
        (make.file([make.text("a") + struct.pack("<IQ", 8, 2**62)]), "truncated"),
        (make.file([struct.pack("<Q", 2**62) + b"a" * 64]), "truncated"),
        (make.file([make.text("k" * 70_000)]), "70,000 bytes"),
        (make.file([make.text(b"\xff\xfe") + b"\0" * 64]), "not UTF-8"),
        (make.file([make.number("general.alignment", 24)]), "not a power of two"),
        (make.file([make.number("general.alignment", 0)]), "not a power of two"),
        (make.file([make.word("general.alignment", "32")]), "not a power of two"),
        (make.file([make.number("general.alignment", 2**31)], [ONE], b"\0" * 32), "truncated"),
        (make.file([], [make.tensor("t", (8, 0), 0, 0)], b"\0" * 32), "holds nothing"),
        (make.file([], [make.tensor("t", (2**38,), 0, 0)], b"\0" * 900), "truncated"),
        (make.file([], [make.tensor("t", (2**38,), 99, 0)], b"\0" * 900), "has 900 bytes"),
        (make.file([], [make.tensor("t", (8,), 0, 2**63)], b"\0" * 32), "truncated"),
        (make.file([], [make.tensor("t", (8,), 99, 2**63)], b"\0" * 32), "truncated"),
        (make.file([], [ONE, make.tensor("u", (8,), 0, 0)], b"\0" * 64), "'t' of 32 bytes reaches"),
        (make.file([], [ONE, make.tensor("u", (8,), 99, 0)], b"\0" * 64), "'t' of 32 bytes"),
        (make.file([], [make.tensor("u", (8,), 99, 0), ONE], b"\0" * 64), "'u' of shape [8] has 0"),
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


@pytest.mark.parametrize(
    ("array", "finding"),
    [
        (struct.pack("<IIQ", 9, 8, 2**22), "4,194,304 texts; 2,097,152 in all"),
        (struct.pack("<IIQ", 9, 8, 2**20), "is zeros"),
        (struct.pack("<IIQQ", 9, 9, 2**32, 0), "unknown type 9"),
    ],
)
def test_a_large_empty_file_cannot_keep_the_reader_busy(
    path: Path, array: bytes, finding: str
) -> None:
    """A terabyte of zeros costs nothing to make, and would be endless texts of no length."""
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + make.text("a") + array)
    os.truncate(path, 1 << 40)
    with pytest.raises(BrokenModelFile, match=finding):
        read_gguf(path)


def test_a_header_that_goes_on_for_ever_is_left(path: Path) -> None:
    made = encoder.Encoder()
    for index in range(3):
        made.entry(f"text.{index}", encoder.UINT8, 1)
    head = bytearray(made.content)
    place = len(head) - 5  # the last entry's type and value: now a text of 2 TB
    head[place:] = struct.pack("<IQ", encoder.TEXT, 2**41)
    struct.pack_into("<Q", head, 16, 4)
    path.write_bytes(head)
    os.truncate(path, 2**42)
    with pytest.raises(BrokenModelFile, match="longer than 268,435,456 bytes"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("tensors", "entries", "finding"),
    [(2**17, 0, "has 131,072 tensors"), (0, 2**17, "has 131,072 metadata entries")],
)
def test_more_than_any_model_has_is_not_begun(
    path: Path, tensors: int, entries: int, finding: str
) -> None:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, entries))
    os.truncate(path, 1 << 30)
    with pytest.raises(BrokenModelFile, match=finding):
        read_gguf(path)


def test_a_pipe_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(BrokenModelFile, match="a pipe or device"):
        read_gguf(path)


def test_a_link_to_itself_is_broken(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(BrokenModelFile, match="symbolic links"):
        read_gguf(path)


def test_a_message_stays_short_whatever_the_name(path: Path) -> None:
    assert len(broken(path, make.file([make.number("k" * 60_000, 1)] * 2))) < 400
