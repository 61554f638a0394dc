"""What does the header of a GGUF file say, and does the file hold what it promises?

Only the header is read. Arrays of texts and long arrays are stepped over, so that a vocabulary of
150,000 tokens costs milliseconds. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from pytest_llmperf.models.errors import BrokenModelFile
from pytest_llmperf.models.gguf_bytes import (
    ARRAY,
    SCALARS,
    TEXT,
    ByteOrder,
    GgufBytes,
    Scalar,
    opened,
    shown,
)
from pytest_llmperf.models.magic import name_of_content
from pytest_llmperf.models.tensor_types import GGML_TYPES

_MOST_ENTRIES = 1 << 16  # of metadata, and of tensors: grown models have some thousand of each
_MOST_DIMENSIONS = 4
_SMALLEST_ENTRY = 13  # bytes of a metadata entry: key length, type, one byte
_SMALLEST_TENSOR = 32  # bytes of a tensor's entry: name length, dimensions, one size, type, offset
_DENSEST = 64  # elements in a byte; the densest type there is has seven


class GgufTensor(msgspec.Struct, frozen=True):
    """One tensor's entry in the header."""

    name: str
    shape: tuple[int, ...]
    """Sizes, the contiguous dimension first (the reverse of numpy's order)."""
    type_number: int
    type_name: str
    """GGML's name of the type; ``type N`` when the number is not known here."""
    offset: int
    """Where the data begin, in bytes from the beginning of the file."""
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a GGUF file says before its tensor data."""

    version: int
    byte_order: ByteOrder
    """Of header and weights alike. Engines load the order of their own machine only."""
    metadata: dict[str, Scalar]
    arrays: dict[str, tuple[Scalar, ...]]
    """The arrays of numbers that are short enough to state something per layer."""
    array_lengths: dict[str, int]
    """Number of items of each metadata entry that is an array, kept or not."""
    long_texts: dict[str, int]
    """Bytes of each metadata text that was too long to be kept."""
    tensors: tuple[GgufTensor, ...]

    @property
    def is_native(self) -> bool:
        """Whether an engine on this machine could load the weights as they lie there."""
        return self.byte_order == sys.byteorder


def read_gguf(path: Path) -> GgufHeader:
    """Read the header of ``path`` and check that all tensor data lie within the file, apart.

    Raises ModelNotHere when there is no such file, BrokenModelFile, naming the place, when it is
    not a whole GGUF file of version 2 or 3. Costs no more than some 50 MB whatever is in the file.
    """
    with opened(path) as (file, size):
        data = GgufBytes(path, file, size)
        version = _version(data)
        tensor_count, entry_count = data.counts("QQ", "the counts")
        _check_count(data, entry_count, _SMALLEST_ENTRY, "metadata entries")
        _check_count(data, tensor_count, _SMALLEST_TENSOR, "tensors")
        found = _Metadata()
        for index in range(entry_count):
            _read_entry(data, index, found)
        tensors = _tensors(data, tensor_count, found.values.get("general.alignment", 32))
    return GgufHeader(
        version=version,
        byte_order=data.byte_order,
        metadata=found.values,
        arrays=found.arrays,
        array_lengths=found.array_lengths,
        long_texts=found.long_texts,
        tensors=tensors,
    )


def _version(data: GgufBytes) -> int:
    """Read the beginning, which also tells the byte order."""
    start = data.peek(512)
    if not start.startswith(b"GGUF"):
        data.fail(f"not a GGUF file but {name_of_content(start)}")
    data.at += 4
    (version,) = data.counts("I", "the version")
    if version and not version & 0xFFFF:  # as llama.cpp and gguf-py tell it
        data.byte_order = "big"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in (2, 3):
        problem = f"GGUF version {version}; versions 2 and 3 can be read"
        raise BrokenModelFile.at(data.path, problem, "Convert the model again.")
    return version


def _check_count(data: GgufBytes, count: int, smallest: int, what: str) -> None:
    if count * smallest > data.size:
        data.fail(f"promises {count} {what}, more than {data.size} bytes can hold")
    if count > _MOST_ENTRIES:
        data.fail(f"has {count:,} {what}; {_MOST_ENTRIES:,} can be read")


class _Metadata(msgspec.Struct):
    """The metadata read so far; the fields are those of GgufHeader."""

    values: dict[str, Scalar] = {}
    arrays: dict[str, tuple[Scalar, ...]] = {}
    array_lengths: dict[str, int] = {}
    long_texts: dict[str, int] = {}


def _read_entry(data: GgufBytes, index: int, found: _Metadata) -> None:
    key = data.name(f"key {index}")
    if key in found.values or key in found.array_lengths or key in found.long_texts:
        data.fail(f"metadata key {shown(key)} occurs twice")
    (kind,) = data.counts("I", shown(key))
    if kind == ARRAY:
        found.array_lengths[key], items = data.array(f"array {shown(key)}")
        if items is not None:
            found.arrays[key] = items
    elif kind == TEXT:
        text = data.text(f"the value of {shown(key)}")
        if isinstance(text, str):
            found.values[key] = text
        else:
            found.long_texts[key] = text
    elif kind in SCALARS:
        (found.values[key],) = data.unpack(SCALARS[kind], shown(key))
    else:
        data.fail(f"metadata {shown(key)} has the unknown type {kind}")


class _Entry(msgspec.Struct, frozen=True):
    """A tensor's entry as it is written, not yet checked."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int
    """From the beginning of the tensor data."""


def _tensors(data: GgufBytes, count: int, alignment: Scalar) -> tuple[GgufTensor, ...]:
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        data.fail(f"general.alignment is {alignment!r}, not a power of two")
    entries: dict[str, _Entry] = {}
    for index in range(count):
        entry = _entry(data, index)
        if entry.name in entries:
            data.fail(f"tensor {shown(entry.name)} occurs twice")
        if entry.offset % alignment:
            problem = f"begins at {entry.offset}, not a multiple of {alignment}"
            data.fail(f"tensor {shown(entry.name)} {problem}")
        entries[entry.name] = entry
    start = -(-data.at // alignment) * alignment
    ends = _ends(list(entries.values()), data.size - start)
    return tuple(_tensor(data, entry, start, ends[name]) for name, entry in entries.items())


def _entry(data: GgufBytes, index: int) -> _Entry:
    name = data.name(f"the name of tensor {index}")
    place = f"tensor {shown(name)}"
    (dimensions,) = data.counts("I", place)
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        data.fail(f"{place} has {dimensions} dimensions")
    *shape, number, offset = data.counts(f"{dimensions}QIQ", place)
    if 0 in shape:
        data.fail(f"{place} of shape {shape} holds nothing")
    return _Entry(name, tuple(shape), number, offset)


def _ends(entries: Sequence[_Entry], data_bytes: int) -> dict[str, int]:
    """Where the room of each tensor ends: where the next one begins, or the file ends."""
    ordered = sorted(entries, key=lambda entry: entry.offset)
    ends = {one.name: min(after.offset, data_bytes) for one, after in pairwise(ordered)}
    return ends | {entry.name: data_bytes for entry in ordered[-1:]}


def _tensor(data: GgufBytes, entry: _Entry, start: int, end: int) -> GgufTensor:
    """Check one tensor; all offsets count from ``start``, its room goes to ``end``."""
    place, offset, room = f"tensor {shown(entry.name)}", start + entry.offset, end - entry.offset
    known = GGML_TYPES.get(entry.type_number)
    if offset >= data.size:
        data.fail(f"truncated: {place} begins at byte {offset}, but the file ends at {data.size}")
    if known is None:
        if room * _DENSEST < math.prod(entry.shape):
            data.fail(f"{place} of shape {list(entry.shape)} has {max(0, room)} bytes")
        name, size = f"type {entry.type_number}", room
    else:
        if entry.shape[0] % known.elements:
            rows = f"{place} has rows of {entry.shape[0]}"
            data.fail(f"{rows}, which {known.name} cannot hold in blocks of {known.elements}")
        name, size = known.name, math.prod(entry.shape) // known.elements * known.bytes
    if offset + size > data.size:
        ends = f"{place} ends at byte {offset + size}"
        data.fail(f"truncated: {ends}, but the file ends at {data.size}")
    if size > room:
        data.fail(f"{place} of {size} bytes reaches {size - room} into the next one")
    return GgufTensor(entry.name, entry.shape, entry.type_number, name, offset, size)
