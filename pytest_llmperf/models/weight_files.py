"""Which files hold a model's weights, are they still the same, and are they in the page cache?"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import sys
from pathlib import Path

import msgspec

from pytest_llmperf.models import safetensors
from pytest_llmperf.models.onnx_folder import weight_file_paths
from pytest_llmperf.models.spec import ModelFiles

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")
"""Names of the parts that llama.cpp splits a model into."""
_PROTECTION_READ, _MAP_SHARED = 1, 1  # sys/mman.h, the same on Linux and macOS


class FileStamp(msgspec.Struct, frozen=True):
    """What changes when somebody writes or replaces a file."""

    path: str
    inode: int
    size_bytes: int
    modified_ns: int


def weight_paths(files: ModelFiles) -> list[Path]:
    """The files with the tensors: all shards of a GGUF model, what a folder's index names.

    Raises BrokenModelFile for an index that cannot be read.
    """
    path = Path(files.path)
    if files.format == "hf":
        return [path / name for name in safetensors.file_names(path)]
    if files.format == "onnx":
        return weight_file_paths(path)
    shard = SHARD.fullmatch(path.name)
    if shard is None or int(shard["count"]) < 2:
        return [path]
    numbers = range(1, int(shard["count"]) + 1)
    return [path.with_name(f"{shard['stem']}-{n:05}-of-{shard['count']}.gguf") for n in numbers]


def stamp(files: ModelFiles) -> tuple[FileStamp, ...]:
    """The state of every weight file now. Raises OSError."""
    found = []
    for path in weight_paths(files):
        seen = path.stat()
        found.append(FileStamp(str(path), seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return tuple(found)


def changed_since(stamps: tuple[FileStamp, ...]) -> str | None:
    """Say which weight file was written, replaced or removed since; None: none was."""
    for old in stamps:
        try:
            seen = Path(old.path).stat()
        except OSError as error:
            return f"{Path(old.path).name} is gone ({error.strerror})"
        if (seen.st_ino, seen.st_size, seen.st_mtime_ns) != (
            old.inode,
            old.size_bytes,
            old.modified_ns,
        ):
            how = "replaced" if seen.st_ino != old.inode else "written to"
            return f"{Path(old.path).name} was {how}"
    return None


class NotTold(Exception):
    """The system does not tell what is in the page cache; the message says why."""


def cached_share(paths: list[Path]) -> float:
    """Share of these files' pages that is in the page cache, between 0 and 1. Raises NotTold.

    Source: mincore(2). Since Linux 5.2 it tells the truth only to those who own the file or may
    write to it, and calls everything resident to all others: they get NotTold.
    """
    if sys.platform != "linux":
        raise NotTold(f"the page cache is not looked at on {sys.platform}")
    pages = resident = 0
    try:
        for path in paths:
            found, total = _resident_pages(path)
            resident, pages = resident + found, pages + total
    except OSError as error:
        raise NotTold(f"{error.filename or 'mincore'}: {error.strerror}") from None
    if not pages:
        raise NotTold("the weight files are empty")
    return resident / pages


def _resident_pages(path: Path) -> tuple[int, int]:
    """Pages of one file in the page cache, and in all. Nothing is read: mapping touches no page."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() and not os.access(path, os.W_OK):
            raise NotTold(f"{path.name} belongs to another user, who alone is told")
        size = status.st_size
        if not size:
            return 0, 0
        pages = -(-size // mmap.PAGESIZE)
        seen = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        ]
        address = libc.mmap(None, size, _PROTECTION_READ, _MAP_SHARED, file.fileno(), 0)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap failed", str(path))
        where = ctypes.c_void_p(address)
        try:
            if libc.mincore(where, ctypes.c_size_t(size), seen) != 0:
                raise OSError(ctypes.get_errno(), "mincore failed", str(path))
        finally:
            libc.munmap(where, ctypes.c_size_t(size))
    return bytes(seen).count(1), pages
