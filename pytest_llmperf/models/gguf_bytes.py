"""Which number, text or array stands at this place of a GGUF file?

Nothing that a file says of its sizes is believed before the file is known to be that long, and
what is kept is bounded in sum: neither a wrong count nor a large file can cost more memory or time
than the limits below. Files are read, not mapped: a mapped file that shrinks kills its reader.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NoReturn

from pytest_llmperf.models.errors import BrokenModelFile, ModelNotHere

Scalar = int | float | bool | str
ByteOrder = Literal["little", "big"]

TEXT, ARRAY = 8, 9
SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""Layout, as the struct module has it, of each type of a number."""
LONGEST_NAME = 1 << 16  # bytes; the format's limit for keys
LONGEST_ARRAY = 4096  # items; more than any model has layers
LONGEST_TEXT = 1 << 20  # bytes; chat templates have some 20,000

_CHUNK = 1 << 20  # bytes that are read at a time
_LONGEST_HEADER = 1 << 28  # bytes; vocabularies of 260,000 tokens make 20 MB
_MOST_TEXT = 1 << 22  # bytes of all texts that are kept; in memory they may be four times as long
_MOST_ITEMS = 1 << 18  # of all arrays that are kept
_MOST_TEXTS = 1 << 21  # in all arrays: 260,000 tokens have come with 515,000 merges


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a model file; give it with its size in bytes.

    Raises ModelNotHere when there is no such file, BrokenModelFile when it is none that can be
    read: a folder, a pipe (which would never end), or one that the system refuses.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BrokenModelFile(f"{path}: a folder, not a file. Give the file.")
        if not stat.S_ISREG(status.st_mode):
            raise BrokenModelFile(f"{path}: a pipe or device, not a file. Give the file.")
        with path.open("rb") as file:
            yield file, status.st_size
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotHere(f"{path}: no such file.") from None
    except OSError as error:
        problem = f"the system does not let it be read ({error.strerror})"
        raise BrokenModelFile.at(path, problem, "Check its permissions and its disk.") from error


def shown(name: str) -> str:
    """A name in quotes for a message, however long or odd it is."""
    return repr(name if len(name) <= 80 else f"{name[:79]}…")


class GgufBytes:
    """A position in a GGUF file, and the part of the file around it."""

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path, self.size, self.at = path, size, 0
        self.byte_order: ByteOrder = "little"
        self._file, self._buffer, self._base = file, b"", 0
        self._text_left, self._items_left, self._texts_left = _MOST_TEXT, _MOST_ITEMS, _MOST_TEXTS

    def fail(self, problem: str) -> NoReturn:
        """Raise BrokenModelFile for a problem at this position."""
        raise BrokenModelFile.at(self.path, f"{problem} (header byte {self.at})")

    def unpack(self, form: str, place: str) -> tuple[Scalar, ...]:
        """Read numbers, laid out as the struct module has it."""
        layout = self._layout(form)
        raw = self.peek(layout.size)
        if len(raw) < layout.size:
            self._truncated(place)
        self.at += layout.size
        return layout.unpack(raw)

    def counts(self, form: str, place: str) -> tuple[int, ...]:
        """Read numbers that are unsigned whole ones by their layout."""
        return tuple(int(number) for number in self.unpack(form, place))

    def name(self, place: str) -> str:
        """Read a text that has to be kept."""
        length = self._text_length(place)
        if length > LONGEST_NAME:
            self.fail(f"{place} is a text of {length:,} bytes")
        if length > self._text_left:
            self.fail(f"holds more than {_MOST_TEXT:,} bytes of names")
        return self._text(length, place)

    def text(self, place: str) -> str | int:
        """Read a text; step over one that is too long to be kept, and give its bytes."""
        length = self._text_length(place)
        if length <= min(LONGEST_TEXT, self._text_left):
            return self._text(length, place)
        self._skip(length, place)
        return length

    def array(self, place: str) -> tuple[int, tuple[Scalar, ...] | None]:
        """Step over an array; give its length, and its items when they are few and numbers."""
        kind, count = self.counts("IQ", place)
        if kind == TEXT:
            self._skip_texts(count, place)
            return count, None
        if kind not in SCALARS:
            self.fail(f"{place} has items of the unknown type {kind}")
        length = count * self._layout(SCALARS[kind]).size
        if self.at + length > self.size:
            self._truncated(place)
        if count <= min(LONGEST_ARRAY, self._items_left):
            self._items_left -= count
            return count, self.unpack(f"{count}{SCALARS[kind]}", place)
        self._skip(length, place)
        return count, None

    def peek(self, count: int) -> bytes:
        """Return the bytes from the position on: ``count``, or all there are."""
        local = self.at - self._base
        if local > len(self._buffer) - count:
            if self.at >= self.size:
                return b""
            if self.at > _LONGEST_HEADER:
                self.fail(f"the header is longer than {_LONGEST_HEADER:,} bytes")
            self._file.seek(self.at)
            wanted = min(max(count, _CHUNK), self.size - self.at)
            self._buffer, self._base, local = self._file.read(wanted), self.at, 0
        return self._buffer[local : local + count]

    def _layout(self, form: str) -> struct.Struct:
        return struct.Struct(("<" if self.byte_order == "little" else ">") + form)

    def _text_length(self, place: str) -> int:
        (length,) = self.counts("Q", place)
        if self.at + length > self.size:
            self._truncated(place)
        return length

    def _text(self, length: int, place: str) -> str:
        raw = self.peek(length)
        if len(raw) < length:  # the file was longer a moment ago
            self._truncated(place)
        self.at += length
        self._text_left -= length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return self.fail(f"{place} is not UTF-8")

    def _skip_texts(self, count: int, place: str) -> None:
        if count * 8 > self.size:
            self.fail(f"{place} promises {count} texts, more than the file can hold")
        self._texts_left -= count
        if self._texts_left < 0:
            self.fail(f"{place} has {count:,} texts; {_MOST_TEXTS:,} in all can be read")
        length = self._layout("Q").unpack_from
        buffer, base, local, last = b"", self.at, 0, -1
        for _ in range(count):  # half a million times: nothing here but the stepping
            if local > last:
                self.at = base + local
                if len(self.peek(8)) < 8:
                    self._truncated(place)
                buffer, base = self._buffer, self._base
                if len(buffer) == _CHUNK and not buffer.strip(b"\0"):
                    self.fail(f"{place} is zeros (a download that was reserved, not finished?)")
                local, last = self.at - base, len(buffer) - 8
            local += 8 + length(buffer, local)[0]
        self.at = base + local
        if self.at > self.size:
            self._truncated(place)

    def _skip(self, count: int, place: str) -> None:
        if self.at + count > self.size:
            self._truncated(place)
        self.at += count

    def _truncated(self, place: str) -> NoReturn:
        self.fail(f"truncated: the file ends at byte {self.size}, within {place}")
