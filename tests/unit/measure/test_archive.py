"""Is an array read only if it is what was expected, and is everything else refused in words?"""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pytest_llmperf.measure.archive import BadArchive, read_array

SHAPE = (3, 5)
ARRAY = np.arange(15, dtype=np.float16).reshape(SHAPE)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """An archive of one member with these bytes."""

    def write(data: bytes, how: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(tmp_path / "file", "w", how) as archive:
            archive.writestr("it.npy", data)
        return tmp_path / "file"

    return write


def as_npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, array)
    return data.getvalue()


def with_header(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def claims(shape: str, descr: str = "'<f2'") -> bytes:
    return with_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n")


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_was_written_is_read(write: Write, how: int) -> None:
    found = read_array(write(as_npy(ARRAY), how), "it", np.float16, SHAPE)
    assert found.dtype == np.float16
    assert (found == ARRAY).all()


def test_a_short_array_needs_no_shape(write: Write) -> None:
    data = np.frombuffer(b"a head", np.uint8)
    assert read_array(write(as_npy(data)), "it", np.uint8).tobytes() == b"a head"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it does not begin as an array does"),
        (b"no magic at all", "it does not begin as an array does"),
        (b"\x93NUMPY\x02\x00", "another version of numpy's format"),
        (with_header("{'descr': "), "it does not begin as an array does"),
        (with_header("-" * 9000 + "1"), "it does not begin as an array does"),
        (with_header("(" * 9000), "it does not begin as an array does"),
        (with_header("{'descr': '''"), "it does not begin as an array does"),
        (with_header("\t1\n  2L\n 3"), "it does not begin as an array does"),
        (with_header("x" * 20_000), "it does not begin as an array does"),
        (claims("(3, 5)", "[]"), "it holds"),
        (claims("(3, 5)", "7"), "it does not begin as an array does"),
        (claims("(3L, 5L)"), "it does not begin as an array does"),
        (claims("(3, 5)", "'|O'"), "it holds object, not float16"),
        (claims("(3, 5)", "'<f4'"), "it holds float32, not float16"),
        (claims("(3, 5)", "'<i2'"), "it holds int16, not float16"),
        (claims("(10**9, 5)"), "it does not begin as an array does"),
        (claims("(1000000000000, 1000000000000)"), "it has the shape (1000000000000, 1"),
        (claims("(-3, -5)"), "it has the shape (-3, -5), not (3, 5)"),
        (claims("(15,)"), "it has the shape (15,), not (3, 5)"),
        (claims("()"), "it has the shape (), not (3, 5)"),
        (as_npy(np.asfortranarray(ARRAY)), "it is stored by columns"),
        (as_npy(ARRAY)[:-1], "it is not as long as its header says"),
        (as_npy(ARRAY) + b"x", "it is not as long as its header says"),
    ],
)
def test_what_is_not_expected_is_refused(write: Write, data: bytes, said: str) -> None:
    with pytest.raises(BadArchive) as refused:
        read_array(write(data), "it", np.float16, SHAPE)
    assert said in str(refused.value)


@pytest.mark.parametrize("shape", ["(100000000000,)", "(-1,)", "()", "(2, 2)"])
def test_a_short_array_is_short(write: Write, shape: str) -> None:
    with pytest.raises(BadArchive, match="it has the shape"):
        read_array(write(claims(shape, "'|u1'")), "it", np.uint8)


def test_no_more_is_read_than_is_asked_for(write: Write) -> None:
    path = write(claims("(3, 5)") + bytes(100 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(BadArchive, match="not as long"):
            read_array(path, "it", np.float16, SHAPE)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 << 20


def test_what_is_no_archive_is_refused(tmp_path: Path, write: Write) -> None:
    np.save(tmp_path / "plain.npy", ARRAY)
    for path in (tmp_path / "plain.npy", tmp_path, tmp_path / "none"):
        with pytest.raises(BadArchive):
            read_array(path, "it", np.float16, SHAPE)
    with pytest.raises(BadArchive, match=r"no item named 'other\.npy'"):
        read_array(write(as_npy(ARRAY)), "other", np.float16, SHAPE)


def test_another_compression_is_refused(write: Write) -> None:
    with pytest.raises(BadArchive, match="compressed in a way that numpy does not"):
        read_array(write(as_npy(ARRAY), zipfile.ZIP_LZMA), "it", np.float16, SHAPE)


@pytest.mark.parametrize("at", range(0, 300, 3))
def test_whatever_byte_is_damaged_nothing_else_is_raised(write: Write, at: int) -> None:
    path = write(as_npy(ARRAY), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0xFF
    path.write_bytes(data)
    try:
        found = read_array(path, "it", np.float16, SHAPE)
    except BadArchive:
        return
    assert (found == ARRAY).all()
