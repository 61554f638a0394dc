"""Which tensors does a safetensors file or a folder of shards hold, and are all of them there?

Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec

from pytest_llmperf.models.errors import BrokenModelFile, ModelNotHere
from pytest_llmperf.models.magic import name_of_content
from pytest_llmperf.models.tensor_types import SAFETENSORS_BITS

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_LARGEST_HEADER = 100_000_000  # bytes; the limit of the reference implementation


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
    """Read the header of one file and check that all data lie within it.

    Raises ModelNotHere when there is no such file, BrokenModelFile when it is not whole.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 8 or length > _LARGEST_HEADER or start[8:9] != b"{":
                problem = f"not a safetensors file but {name_of_content(start)}"
                raise BrokenModelFile.at(path, problem)
            if 8 + length > size:
                problem = f"truncated: the header ends at byte {8 + length}, the file at {size}"
                raise BrokenModelFile.at(path, problem)
            file.seek(8)
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise ModelNotHere(f"{path}: no such file.") from None
    except ValueError as error:
        raise BrokenModelFile.at(path, f"its header is not valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise BrokenModelFile.at(path, "its header is not an object")
    header.pop("__metadata__", None)
    return tuple(_tensor(path, name, entry, 8 + length, size) for name, entry in header.items())


def file_names(folder: Path) -> list[str]:
    """Names of the safetensors files that hold a folder's model, as its index has them.

    Raises BrokenModelFile for an index that cannot be read.
    """
    index = folder / INDEX
    if not index.is_file():
        return [SINGLE]
    names = sorted(set(_places(index).values()))
    for name in names:
        if Path(name).name != name:
            raise BrokenModelFile.at(index, f"names the shard {name!r}, which is no file name")
    return names


def _places(index: Path) -> dict[str, str]:
    """Tensor → file."""
    try:
        places = json.loads(index.read_bytes())["weight_map"]
        strangers = [name for name in places.values() if not isinstance(name, str)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenModelFile.at(index, f"not an index with a weight_map ({error!r})") from error
    if strangers:
        raise BrokenModelFile.at(index, f"names the shard {strangers[0]!r}, which is no file name")
    found: dict[str, str] = places
    return found


def read_folder(folder: Path) -> tuple[SafetensorsTensor, ...]:
    """Read the headers of all safetensors files of a Hugging Face folder.

    Raises ModelNotHere when it holds none, BrokenModelFile when a shard is missing or not whole,
    or a tensor is not where the index says.
    """
    index = folder / INDEX
    if not index.is_file():
        return read_safetensors(folder / SINGLE)
    places = _places(index)
    found: list[SafetensorsTensor] = []
    for shard in file_names(folder):
        if not (folder / shard).is_file():
            raise BrokenModelFile.at(index, f"shard {shard} is missing from the folder")
        found += read_safetensors(folder / shard)
    missing = places.keys() - {tensor.name for tensor in found}
    if missing:
        name = min(missing)
        raise BrokenModelFile.at(index, f"tensor {name!r} is not in shard {places[name]}")
    return tuple(found)


def _tensor(path: Path, name: str, entry: Any, data: int, size: int) -> SafetensorsTensor:
    """Check one header entry; ``data`` is where the file's data begin."""
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(length) for length in entry["shape"])
        begin, end = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenModelFile.at(path, f"tensor {name!r} has a bad entry ({error!r})") from error
    if min(shape, default=0) < 0 or not 0 <= begin <= end:
        raise BrokenModelFile.at(path, f"tensor {name!r} has a negative size or place")
    if data + end > size:
        problem = f"truncated: tensor {name!r} ends at byte {data + end}, the file at {size}"
        raise BrokenModelFile.at(path, problem)
    bits = SAFETENSORS_BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        problem = f"tensor {name!r} of {dtype} {list(shape)} has {end - begin} bytes"
        raise BrokenModelFile.at(path, problem)
    return SafetensorsTensor(name, dtype, shape, path.name, data + begin, end - begin)
