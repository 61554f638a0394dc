"""Which tensors does a safetensors file or a folder of shards hold, and are all of them there?

Format: https://huggingface.co/docs/safetensors. What the reference implementation refuses is
refused here: data that overlap or leave holes, keys that occur twice, types without a known size.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import msgspec

from pytest_llmperf.models.errors import BrokenModelFile
from pytest_llmperf.models.gguf_bytes import opened, shown
from pytest_llmperf.models.magic import name_of_content
from pytest_llmperf.models.tensor_types import SAFETENSORS_BITS

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_LARGEST_HEADER = 100_000_000  # bytes; the limit of the reference implementation
_CHUNK = 1 << 20  # bytes that are read at a time
_MOST_DIMENSIONS = 64  # the limit of PyTorch
_LARGEST_NUMBER = 2**64 - 1
_BITS = SAFETENSORS_BITS | {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}


class SafetensorsTensor(msgspec.Struct, frozen=True):
    """One tensor's entry in a header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """Sizes in numpy's order."""
    file: str
    """Name of the file that holds the data."""
    offset: int
    """Where the data begin, in bytes from the beginning of that file."""
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


def read_safetensors(path: Path) -> tuple[SafetensorsTensor, ...]:
    """Read the header of one file and check that its tensors are its data, without gap or overlap.

    Raises ModelNotHere when there is no such file, BrokenModelFile when it is not whole.
    """
    with opened(path) as (file, size):
        length = _header_bytes(path, file, size)
        header = _object(path, file, length, "its header")
    start = 8 + length
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not _are_texts(metadata):
        raise BrokenModelFile.at(path, "its __metadata__ is not an object of texts")
    tensors = tuple(_tensor(path, name, entry, start) for name, entry in header.items())
    _check_places(path, tensors, start, size)
    return tensors


def file_names(folder: Path) -> list[str]:
    """Names of the safetensors files that hold a folder's model, as its index has them.

    Raises BrokenModelFile for an index that cannot be read.
    """
    index = folder / INDEX
    return sorted(set(_weight_map(index).values())) if index.is_file() else [SINGLE]


def read_folder(folder: Path) -> tuple[SafetensorsTensor, ...]:
    """Read the headers of all safetensors files of a Hugging Face folder.

    Raises ModelNotHere when it holds none, BrokenModelFile when a shard is missing or not whole,
    or a tensor is not where the index says, or is in two shards.
    """
    index = folder / INDEX
    if not index.is_file():
        return read_safetensors(folder / SINGLE)
    places = _weight_map(index)
    found: dict[str, SafetensorsTensor] = {}
    for shard in sorted(set(places.values())):
        if not (folder / shard).is_file():
            raise BrokenModelFile.at(index, f"shard {shard} is missing from the folder")
        for tensor in read_safetensors(folder / shard):
            if tensor.name in found:
                problem = f"tensor {shown(tensor.name)} is also in {found[tensor.name].file}"
                raise BrokenModelFile.at(folder / shard, problem)
            found[tensor.name] = tensor
    for name, shard in places.items():
        if name not in found or found[name].file != shard:
            elsewhere = f" but in {found[name].file}" if name in found else ""
            problem = f"tensor {shown(name)} is not in shard {shard}{elsewhere}"
            raise BrokenModelFile.at(index, problem)
    return tuple(found.values())


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor → file of the folder."""
    with opened(index) as (file, size):
        if size > _LARGEST_HEADER:
            raise BrokenModelFile.at(index, f"it is larger than {_LARGEST_HEADER:,} bytes")
        places = _object(index, file, size, "the index").get("weight_map")
    if not isinstance(places, dict):
        raise BrokenModelFile.at(index, "not an index with a weight_map")
    for name in places.values():
        if not isinstance(name, str) or not _is_file_name(name):
            problem = f"names the shard {name!r:.99}, which is no file name"
            raise BrokenModelFile.at(index, problem)
    return places


def _is_file_name(name: str) -> bool:
    """Whether a name stays in its folder, on every system."""
    return (
        0 < len(name) < 200
        and name not in (".", "..")
        and name.isprintable()
        and not set(name) & set("/\\:")
    )


def _header_bytes(path: Path, file: IO[bytes], size: int) -> int:
    """Length of the header; ``file`` is left where it begins."""
    start = file.read(512)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > _LARGEST_HEADER or start[8:9] != b"{":
        problem = f"not a safetensors file but {name_of_content(start)}"
        raise BrokenModelFile.at(path, problem)
    if 8 + length > size:
        problem = f"truncated: the header ends at byte {8 + length}, the file at {size}"
        raise BrokenModelFile.at(path, problem)
    file.seek(8)
    return length


def _object(path: Path, file: IO[bytes], length: int, what: str) -> dict[str, Any]:
    """Parse a JSON object of so many bytes, more strictly than Python does."""
    try:
        text = "".join(_pieces(file, length))
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except ValueError as error:
        raise BrokenModelFile.at(path, f"{what} is not valid JSON ({error!s:.200})") from error
    except RecursionError:
        raise BrokenModelFile.at(path, f"{what} is not valid JSON (nested too deeply)") from None
    if not isinstance(found, dict):
        raise BrokenModelFile.at(path, f"{what} is not an object")
    return found


def _pieces(file: IO[bytes], length: int) -> Iterator[str]:
    """Read text piece by piece, so that what is no text costs one piece and not 100 MB."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for begin in range(0, length, _CHUNK):
        piece = decoder.decode(file.read(min(_CHUNK, length - begin)))
        if "\0" in piece:
            raise ValueError("it holds zeros")
        yield piece
    yield decoder.decode(b"", final=True)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members; a key that occurs twice would hide a tensor."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} occurs twice")
        if not key.isascii() and any("\ud800" <= letter <= "\udfff" for letter in key):
            raise ValueError(f"the key {shown(key)} is not Unicode")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _tensor(path: Path, name: str, entry: Any, start: int) -> SafetensorsTensor:
    """Check one header entry by itself; ``start`` is where the file's data begin."""
    place = f"tensor {shown(name)}"
    if not isinstance(entry, dict) or not entry.keys() >= {"dtype", "shape", "data_offsets"}:
        problem = f"{place} has a bad entry (dtype, shape or data_offsets is missing)"
        raise BrokenModelFile.at(path, problem)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not _are_counts(shape, range(_MOST_DIMENSIONS + 1)):
        raise BrokenModelFile.at(path, f"{place} has a bad entry (shape {shape!r:.99})")
    if not _are_counts(offsets, (2,)) or offsets[0] > offsets[1]:
        raise BrokenModelFile.at(path, f"{place} has a bad entry (data_offsets {offsets!r:.99})")
    if not isinstance(dtype, str) or dtype not in _BITS:
        problem = f"{place} is of the unknown type {dtype!r:.99}"
        raise BrokenModelFile.at(path, problem, "Update pytest-llmperf, or convert the model.")
    begin, end = offsets
    if math.prod(shape) * _BITS[dtype] != (end - begin) * 8:
        raise BrokenModelFile.at(path, f"{place} of {dtype} {shape} has {end - begin} bytes")
    return SafetensorsTensor(name, dtype, tuple(shape), path.name, start + begin, end - begin)


def _are_texts(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())


def _are_counts(values: Any, lengths: Sequence[int]) -> bool:
    """Whether this is a list, of one of these lengths, of whole numbers that a file may state."""
    return (
        isinstance(values, list)
        and len(values) in lengths
        and all(type(value) is int and 0 <= value <= _LARGEST_NUMBER for value in values)
    )


def _check_places(path: Path, tensors: Sequence[SafetensorsTensor], start: int, size: int) -> None:
    """Check that the tensors fill the file from ``start`` to its end, each byte once."""
    at = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.bytes)):
        place, end = f"tensor {shown(tensor.name)}", tensor.offset + tensor.bytes
        if end > size:
            problem = f"truncated: {place} ends at byte {end}, the file at {size}"
            raise BrokenModelFile.at(path, problem)
        if tensor.offset < at:
            overlap = f"reaches back {at - tensor.offset} bytes into the one before it"
            raise BrokenModelFile.at(path, f"{place} {overlap}")
        if tensor.offset > at:
            gap = f"the {tensor.offset - at} bytes before {place} belong to none"
            raise BrokenModelFile.at(path, gap)
        at = end
    if at < size:
        raise BrokenModelFile.at(path, f"the last {size - at} bytes belong to no tensor")
