"""What does the header of a GGUF file say, and does the file hold what it promises?

Only the header is read. Arrays are stepped over by their length and texts in arrays are not
decoded, so that a vocabulary of 150,000 tokens costs milliseconds. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from pytest_llmperf.models.errors import BrokenModelFile, ModelNotHere
from pytest_llmperf.models.magic import name_of_content
from pytest_llmperf.models.tensor_types import GGML_TYPES

Scalar = int | float | bool | str

_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_CHUNK = 1 << 20
_LONGEST_TEXT = 1 << 26  # bytes; chat templates are the longest texts there are
_MOST_DIMENSIONS = 4
_SMALLEST_ENTRY = 13  # bytes of a metadata entry: key length, type, one byte
_SMALLEST_TENSOR = 32  # bytes of a tensor's entry: name length, dimensions, one size, type, offset


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


class GgufHeader(msgspec.Struct, frozen=True):
    """Everything a GGUF file says before its tensor data."""

    version: int
    metadata: dict[str, Scalar]
    array_lengths: dict[str, int]
    """Number of items of each metadata entry that is an array."""
    tensors: tuple[GgufTensor, ...]


def read_gguf(path: Path) -> GgufHeader:
    """Read the header of ``path`` and check that all tensor data lie within the file.

    Raises ModelNotHere when there is no such file, BrokenModelFile, naming the place, when it is
    not a whole GGUF file of version 2 or 3 in this machine's byte order.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _Reader(path, file, size).header()
    except FileNotFoundError:
        raise ModelNotHere(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise BrokenModelFile(f"{path}: a folder, not a GGUF file. Give the file.") from None


class _Reader:
    """A position in the header, and the part of the file around it."""

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.buffer, self.base, self.at = b"", 0, 0

    def header(self) -> GgufHeader:
        version = self._version()
        tensor_count, entry_count = self._unpack("QQ", "the counts")
        for count, smallest, what in (
            (entry_count, _SMALLEST_ENTRY, "metadata entries"),
            (tensor_count, _SMALLEST_TENSOR, "tensors"),
        ):
            if count * smallest > self.size:
                self._fail(f"promises {count} {what}, more than {self.size} bytes can hold")
        metadata: dict[str, Scalar] = {}
        lengths: dict[str, int] = {}
        for index in range(entry_count):
            key = self._text(f"key {index}")
            if key in metadata or key in lengths:
                self._fail(f"metadata key {key!r} occurs twice")
            (kind,) = self._unpack("I", key)
            if kind == _ARRAY:
                lengths[key] = self._skip_array(key)
            else:
                metadata[key] = self._scalar(kind, key)
        tensors = self._tensors(tensor_count, metadata.get("general.alignment", 32))
        return GgufHeader(version, metadata, lengths, tensors)

    def _version(self) -> int:
        start = self._peek(512)
        if not start.startswith(b"GGUF"):
            self._fail(f"not a GGUF file but {name_of_content(start)}")
        self.at += 4
        (version,) = self._unpack("I", "the version")
        if version and not version & 0xFFFF:
            problem = "a big-endian GGUF on a little-endian machine"
            raise BrokenModelFile.at(self.path, problem, "Convert the model on this machine.")
        if version not in (2, 3):
            problem = f"GGUF version {version}; versions 2 and 3 can be read"
            raise BrokenModelFile.at(self.path, problem, "Convert the model again.")
        return int(version)

    def _tensors(self, count: int, alignment: Scalar) -> tuple[GgufTensor, ...]:
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            self._fail(f"general.alignment is {alignment!r}, not a power of two")
        entries: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for index in range(count):
            name = self._text(f"the name of tensor {index}")
            if name in entries:
                self._fail(f"tensor {name!r} occurs twice")
            (dimensions,) = self._unpack("I", name)
            if not 1 <= dimensions <= _MOST_DIMENSIONS:
                self._fail(f"tensor {name!r} has {dimensions} dimensions")
            shape = self._unpack(f"{dimensions}Q", name)
            number, offset = self._unpack("IQ", name)
            if offset % alignment:
                self._fail(f"tensor {name!r} begins at {offset}, not a multiple of {alignment}")
            entries[name] = (shape, number, offset)
        start = -(-self.at // alignment) * alignment
        begins = sorted({offset for _, _, offset in entries.values()})
        ends = [*begins[1:], max(0, self.size - start)]
        after = dict(zip(begins, ends, strict=False))  # without tensors there is no first to skip
        return tuple(
            self._tensor(name, shape, number, start + offset, after[offset] - offset)
            for name, (shape, number, offset) in entries.items()
        )

    def _tensor(
        self, name: str, shape: tuple[int, ...], number: int, offset: int, room: int
    ) -> GgufTensor:
        """Describe one tensor; ``room`` bytes are there until the next one."""
        known = GGML_TYPES.get(number)
        if known is None:
            return GgufTensor(name, shape, number, f"type {number}", offset, max(0, room))
        if shape[0] % known.elements:
            self._fail(
                f"tensor {name!r} has rows of {shape[0]}, "
                f"which {known.name} cannot hold in blocks of {known.elements}"
            )
        size = math.prod(shape) // known.elements * known.bytes
        if offset + size > self.size:
            self._fail(
                f"truncated: tensor {name!r} ends at byte {offset + size}, "
                f"but the file ends at {self.size}"
            )
        if size > room:
            self._fail(f"tensor {name!r} of {size} bytes reaches {size - room} into the next one")
        return GgufTensor(name, shape, number, known.name, offset, size)

    def _scalar(self, kind: int, key: str) -> Scalar:
        if kind == _STRING:
            return self._text(f"the value of {key!r}")
        if kind not in _SCALARS:
            self._fail(f"metadata {key!r} has the unknown type {kind}")
        (value,) = self._unpack(_SCALARS[kind], key)
        assert isinstance(value, int | float)
        return value

    def _skip_array(self, key: str) -> int:
        kind, count = self._unpack("IQ", key)
        if kind in _SCALARS:
            self._skip(count * struct.calcsize("<" + _SCALARS[kind]), f"array {key!r}")
        elif kind == _STRING:
            self._skip_texts(count, key)
        else:
            self._fail(f"array {key!r} has items of the unknown type {kind}")
        return int(count)

    def _skip_texts(self, count: int, key: str) -> None:
        if count * 8 > self.size:
            self._fail(f"array {key!r} promises {count} texts, more than the file can hold")
        length = struct.Struct("<Q").unpack_from
        for _ in range(count):
            local = self.at - self.base
            if not 0 <= local <= len(self.buffer) - 8:
                self._peek(_CHUNK)
                local = self.at - self.base
                if len(self.buffer) - local < 8:
                    self._truncated(f"array {key!r}")
            self.at += 8 + length(self.buffer, local)[0]
            if self.at > self.size:
                self._truncated(f"array {key!r}")

    def _text(self, place: str) -> str:
        (length,) = self._unpack("Q", place)
        if self.at + length > self.size:
            self._truncated(place)
        if length > _LONGEST_TEXT:
            self._fail(f"{place} is a text of {length} bytes")
        raw = self._peek(length)
        self.at += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return self._fail(f"{place} is not UTF-8")

    def _skip(self, count: int, place: str) -> None:
        if self.at + count > self.size:
            self._truncated(place)
        self.at += count

    def _unpack(self, form: str, place: str) -> tuple[int, ...]:
        layout = struct.Struct("<" + form)
        raw = self._peek(layout.size)
        if len(raw) < layout.size:
            self._truncated(place)
        self.at += layout.size
        return layout.unpack_from(raw)

    def _peek(self, count: int) -> bytes:
        """Return the bytes from the position on: at least ``count``, or all there are."""
        local = self.at - self.base
        if not 0 <= local <= len(self.buffer) - count:
            self.file.seek(self.at)
            self.buffer, self.base, local = self.file.read(max(count, _CHUNK)), self.at, 0
        return self.buffer[local : local + count]

    def _truncated(self, place: str) -> NoReturn:
        self._fail(f"truncated: the file ends at byte {self.size}, within {place}")

    def _fail(self, problem: str) -> NoReturn:
        raise BrokenModelFile.at(self.path, f"{problem} (header byte {self.at})")
