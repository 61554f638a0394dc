"""What array does a numpy archive hold under a name? Read without trust.

``np.load`` allocates what a header claims, and answers with bytes for what is no array. Here
nothing is unpickled, what is not of the expected type and shape is refused by its header, and no
more is read than that takes.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_MOST_BYTES = 1 << 16
"""Of an array whose length is not known beforehand."""
_PLAIN_ZIP = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN_ZIP = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,  # of a member that is encrypted
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_NO_HEADER = (
    ValueError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    Warning,
)
"""What numpy, which takes a header for Python, may meet in one."""


class BadArchive(Exception):
    """Not what was expected; the message says what, and not in which file."""


def read_array(
    path: Path, name: str, kind: DTypeLike, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """The array ``name`` of ``kind``; without a shape a short one of one dimension.

    Raises BadArchive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type not in _PLAIN_ZIP:
                raise BadArchive(f"{name} is compressed in a way that numpy does not")
            with archive.open(info) as member:
                return _read(member, name, np.dtype(kind), shape)
    except _BROKEN_ZIP as error:
        raise BadArchive(str(error)) from error


def _read(
    member: IO[bytes], name: str, kind: np.dtype[Any], shape: tuple[int, ...] | None
) -> np.ndarray:
    found, dtype = _read_header(member, name)
    if (dtype.kind, dtype.itemsize) != (kind.kind, kind.itemsize):
        raise BadArchive(f"{name} holds {dtype}, not {kind}")
    is_short = len(found) == 1 and 0 <= found[0] * dtype.itemsize <= _MOST_BYTES
    if not (is_short if shape is None else found == shape):
        raise BadArchive(f"{name} has the shape {found}" + (f", not {shape}" if shape else ""))
    size = math.prod(found) * dtype.itemsize
    data = member.read(size + 1)  # to its end, where the archive compares its checksum
    if len(data) != size:
        raise BadArchive(f"{name} is not as long as its header says")
    return np.frombuffer(data, dtype).reshape(found)


def _read_header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type."""
    try:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError("another version of numpy's format")
        shape, is_by_column, dtype = np.lib.format.read_array_header_1_0(member)
    except _NO_HEADER as error:
        raise BadArchive(f"{name} does not begin as an array does: {error}") from error
    if is_by_column:
        raise BadArchive(f"{name} is stored by columns")
    return shape, dtype
