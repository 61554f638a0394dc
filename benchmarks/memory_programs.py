"""Which programs take a known amount of memory?

    python memory_programs.py NAME BYTES FILE READ WRITE

says ``r`` on descriptor WRITE when it is ready, acts on a ``g`` from descriptor READ, says ``d``
when it has done so, and keeps what it still holds until READ ends. FILE has BYTES bytes.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_llmperf import child

PAGE = mmap.PAGESIZE
STEP = 64 * PAGE
_SPIKE_S = 0.005
_BYTES_OVERHEAD = 33 + 16
"""Header of a bytes object and its closing NUL, and the allocator's own header."""

Act = Callable[[], object]
"""Takes the memory; what it returns is held until the program ends."""


def private(size: int) -> mmap.mmap:
    """Private memory of ``size`` bytes, every page written."""
    region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, size, STEP):
        end = min(start + STEP, size)
        region[start:end:PAGE] = b"\1" * len(range(start, end, PAGE))
    return region


def mapped(path: str) -> mmap.mmap:
    """The file mapped, every page read."""
    with open(path, "rb") as file:  # noqa: PTH123 - so that the program stays small
        region = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    for start in range(0, len(region), PAGE):
        region[start]
    return region


def steady(size: int, _path: str) -> object:
    """Take it and keep it."""
    return private(size)


def ramp(size: int, _path: str) -> object:
    """Take it in 16 steps and keep it."""
    return [private(size // 16) for _ in range(16)]


def spike(size: int, _path: str) -> object:
    """Take it, keep it for 5 ms, give it back."""
    region = private(size)
    time.sleep(_SPIKE_S)
    region.close()
    return None


def locked_spike(size: int, _path: str) -> object:
    """Take it and give it back; no other thread of the interpreter runs meanwhile."""
    b"\1" * size  # one call into C, whose result nobody keeps
    return None


def file_then_private(size: int, path: str) -> object:
    """Read a mapped file, drop its pages, then take half as much again of private memory."""
    region = mapped(path)
    region.madvise(mmap.MADV_DONTNEED)
    private(size + size // 2).close()
    return region


def share_file(_size: int, path: str) -> object:
    """Map the file and keep it."""
    return mapped(path)


@dataclass(frozen=True)
class Program:
    """What is done, and by how much the peak is higher than what was held before."""

    act: Callable[[int, str], object]
    grows_bytes: Callable[[int], int]
    children: int = 0
    """So many children do it, one after the other; 0: the program itself."""


PROGRAMS: dict[str, Program] = {
    "steady": Program(steady, lambda size: size),
    "ramp": Program(ramp, lambda size: size),
    "5 ms spike": Program(spike, lambda size: size),
    "spike under GIL": Program(
        locked_spike, lambda size: -(-(size + _BYTES_OVERHEAD) // PAGE) * PAGE
    ),
    "file dropped": Program(file_then_private, lambda size: size + size // 2),
    "2 map one file": Program(share_file, lambda size: size, children=2),
    "2 peak apart": Program(spike, lambda size: size, children=2),
    "2 hold together": Program(steady, lambda size: 2 * size, children=2),
}


class Family:
    """Children that do the same program, one after the other."""

    def __init__(self, name: str, size: int, path: str, count: int) -> None:
        self._children = [start_child(name, size, path) for _ in range(count)]

    def act(self) -> None:
        """Let each of them do it; they keep what they keep."""
        for read, write in self._children:
            os.write(write, b"g")
            os.read(read, 1)


def start_child(name: str, size: int, path: str) -> tuple[int, int]:
    """Start one; the descriptors to read from it and to write to it, once it is ready."""
    to_child_read, to_child_write = os.pipe()
    from_child_read, from_child_write = os.pipe()
    descriptors = (to_child_read, from_child_write)
    # It stays in this program's group, which ends as a whole.
    subprocess.Popen(
        [sys.executable, __file__, name, str(size), path, *map(str, descriptors), "alone"],
        pass_fds=descriptors,
    )
    for descriptor in descriptors:
        os.close(descriptor)
    os.read(from_child_read, 1)
    return from_child_read, to_child_write


def main(arguments: list[str]) -> int:
    """Serve the one who started it."""
    child.die_with_parent()
    name, size, path = arguments[0], int(arguments[1]), arguments[2]
    read, write = int(arguments[3]), int(arguments[4])
    program = PROGRAMS[name]
    act: Act
    if program.children and "alone" not in arguments:
        act = Family(name, size, path, program.children).act
    else:
        act = lambda: program.act(size, path)  # noqa: E731 - one line says it
        private(PAGE).close()
    os.write(write, b"r")
    held = []
    while os.read(read, 1):
        held.append(act())
        os.write(write, b"d")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
