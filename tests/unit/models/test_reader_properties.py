"""Whatever is done to a whole file: its reader gives a sound header, or says what is broken.

The short form takes the same cases every time. The long form looks for new ones:
``LLMPERF_LONG=1 pytest tests/unit/models/test_reader_properties.py``.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmperf.models import BrokenModelFile, ModelError
from pytest_llmperf.models.architecture import lay_out
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.describe import describe
from pytest_llmperf.models.gguf import GgufTensor, read_gguf
from pytest_llmperf.models.gguf_bytes import ByteOrder
from pytest_llmperf.models.safetensors import (
    INDEX,
    SINGLE,
    SafetensorsTensor,
    read_folder,
    read_safetensors,
)
from tests.unit.models import gguf_encoder
from tests.unit.models.conftest import TINY
from tests.unit.models.gguf_encoder import Place

Header = TypeVar("Header")

LONG = os.environ.get("LLMPERF_LONG") == "1"
MOST_BYTES = 8e6  # memory; the files have a tenth of a megabyte
SMALL = TINY | {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 32}
ODD_NUMBERS = sorted(
    {0, 1, 2, 3, 7, 8, 9, 31, 99}
    | {2**power + more for power in (8, 16, 31, 32, 62, 63, 64) for more in (-1, 0, 1)}
)


class Original(msgspec.Struct, frozen=True):
    """A whole file."""

    content: bytes
    header_bytes: int
    byte_order: ByteOrder
    places: tuple[Place, ...]
    """Where numbers stand of which the reading depends."""


@functools.cache
def gguf_originals() -> tuple[Original, ...]:
    """What the package writes for a synthetic model, and every version and byte order."""
    from pytest_llmperf.models.writers.gguf_file import write_gguf
    from pytest_llmperf.models.writers.weights import generate

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        write_gguf(
            path,
            lay_out(ModelConfig("here", SMALL)),
            "m",
            "F16",
            functools.partial(generate, seed=0),
            lambda _: None,
        )
        begin = min(tensor.offset for tensor in read_gguf(path).tensors)
        counts = ((4, 4), (8, 8), (16, 8))
        found = [Original(path.read_bytes(), begin, "little", counts)]
    orders: tuple[ByteOrder, ...] = ("little", "big")
    for byte_order, version in itertools.product(orders, (2, 3)):
        made = gguf_encoder.model(byte_order, version)
        places = tuple(made.places)
        found.append(Original(made.file(), len(made.content), byte_order, places))
    return tuple(found)


@functools.cache
def safetensors_originals() -> tuple[Original, ...]:
    """What the package writes for a synthetic model: the length, and digits of JSON numbers."""
    from pytest_llmperf.models.writers.hf_folder import write_weights
    from pytest_llmperf.models.writers.weights import generate

    with tempfile.TemporaryDirectory() as folder:
        architecture = lay_out(ModelConfig("here", SMALL | {"num_hidden_layers": 1}))
        write_weights(
            Path(folder), architecture, "BF16", functools.partial(generate, seed=0), lambda _: None
        )
        content = (Path(folder) / SINGLE).read_bytes()
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    digits = [(at, 1) for at in range(8, header_bytes) if content[at : at + 1].isdigit()]
    return (Original(content, header_bytes, "little", ((0, 8), *digits)),)


@st.composite
def damaged(draw: Any, originals: Callable[[], Sequence[Original]]) -> bytes:
    """A whole file after one to three mishaps, nearly all of them in its header."""
    original: Original = draw(st.sampled_from(originals()))
    content = bytearray(original.content)
    reach = original.header_bytes + 64
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        # The ends of a range are drawn most often: there, most mishaps end the reading at once.
        at = (draw(st.integers(0, reach - 1)) + reach // 2) % reach
        begin, size = draw(st.sampled_from([*original.places, (at, 4), (at, 8)]))
        match draw(st.sampled_from(["number", "number", "copy", "copy", "byte", "cut", "move"])):
            case "number":
                number = draw(st.sampled_from(ODD_NUMBERS) | st.integers(0, 2**64 - 1))
                raw = (number % 2 ** (8 * size)).to_bytes(size, original.byte_order)
                content[begin : begin + size] = raw
            case "copy":
                others = [place for place, length in original.places if length == size]
                other = draw(st.sampled_from(others or [at]))
                content[begin : begin + size] = original.content[other : other + size]
            case "byte":
                content[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "cut":
                del content[at:]
            case "move":
                content[at : at + draw(st.integers(0, 16))] = draw(st.binary(max_size=16))
    return bytes(content)


NUMBER = st.sampled_from(ODD_NUMBERS) | st.integers(-1, 40) | st.floats() | st.booleans()
JSON = st.recursive(
    st.none() | NUMBER | st.sampled_from(["BF16", "F32", "F4", "U8", "F128", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["BF16", "F32", "F4", "U8"]) | JSON,
        "shape": st.lists(st.integers(0, 4), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(0, 32), min_size=2, max_size=2) | JSON,
    }
)
WEIGHT_MAP = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([SINGLE, "..", "x"]))
HEADER = st.dictionaries(st.sampled_from(["a", "b", "c", "__metadata__"]), ENTRY | JSON)


def form(cases: int, cases_long: int) -> settings:
    """So many cases in the short form, which never change, or in the long one."""
    return settings(
        max_examples=cases_long if LONG else cases,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def assert_sound(
    tensors: Sequence[GgufTensor] | Sequence[SafetensorsTensor], size_bytes: int
) -> None:
    """Every tensor lies in the file and apart from the others."""
    spans = sorted((tensor.offset, tensor.offset + tensor.bytes) for tensor in tensors)
    assert all(0 < begin <= end <= size_bytes for begin, end in spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert all(tensor.elements < 2**63 for tensor in tensors)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


def test_the_originals_are_whole(folder: Path) -> None:
    for original in gguf_originals():
        path = folder / "whole.gguf"
        path.write_bytes(original.content)
        assert_sound(read_gguf(path).tensors, len(original.content))
    for original in safetensors_originals():
        path = folder / "whole.safetensors"
        path.write_bytes(original.content)
        assert_sound(read_safetensors(path), len(original.content))


def read_or_none(read: Callable[[Path], Header], path: Path) -> Header | None:
    """What ``read`` makes of the file; None when it calls it broken, by its name and shortly."""
    tracemalloc.start()
    message = ""
    try:
        header = read(path)
    except BrokenModelFile as error:
        header, message = None, str(error)
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < MOST_BYTES
    assert header is not None or (str(path) in message and len(message) < 600)
    return header


@form(150, 10_000)
@given(content=damaged(gguf_originals))
def test_a_damaged_gguf_is_read_soundly_or_called_broken(folder: Path, content: bytes) -> None:
    path = folder / "m.gguf"
    path.write_bytes(content)
    header = read_or_none(read_gguf, path)
    if header is None:
        return
    assert_sound(header.tensors, len(content))
    with suppress(ModelError):
        assert describe(path, "gguf").path == str(path)


@form(100, 10_000)
@given(content=damaged(safetensors_originals))
def test_a_damaged_safetensors_is_read_soundly_or_called_broken(
    folder: Path, content: bytes
) -> None:
    path = folder / "m.safetensors"
    path.write_bytes(content)
    tensors = read_or_none(read_safetensors, path)
    if tensors is not None:
        assert_sound(tensors, len(content))


@form(100, 10_000)
@given(header=HEADER, data=st.binary(max_size=40))
def test_a_wrong_header_of_right_json_is_read_soundly_or_called_broken(
    folder: Path, header: dict[str, Any], data: bytes
) -> None:
    text = json.dumps(header).encode()  # NaN and all
    content = len(text).to_bytes(8, "little") + text + data
    path = folder / "json.safetensors"
    path.write_bytes(content)
    tensors = read_or_none(read_safetensors, path)
    if tensors is not None:
        assert_sound(tensors, len(content))
        assert sum(tensor.bytes for tensor in tensors) == len(data)


@form(50, 10_000)
@given(index=st.dictionaries(st.sampled_from(["weight_map", "metadata"]), WEIGHT_MAP | JSON))
def test_a_wrong_index_is_called_broken(folder: Path, index: dict[str, Any]) -> None:
    path = folder / INDEX
    path.write_text(json.dumps(index))
    try:
        tensors = read_or_none(lambda _: read_folder(folder), path)
    finally:
        path.unlink()
    assert tensors is None or (tensors == () and index["weight_map"] == {})
