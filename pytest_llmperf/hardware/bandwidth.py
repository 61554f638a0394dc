"""How fast can all usable cores read memory and multiply matrices? The child process that tries.

Run as ``python -m pytest_llmperf.hardware.bandwidth THREADS BYTES``; prints one
:class:`~pytest_llmperf.hardware.calibration.Probe` as a line of JSON. Only this process imports
numpy.

Every thread reads its own part of the working set over and over, without ever waiting for
another; afterwards the time that all of them read is cut into windows. So no barrier costs
bandwidth, however many threads there are, and a neighbour that disturbs for milliseconds spoils
a window, not the probe. The kernel is a bitwise OR of 64-bit integers: of numpy's reductions it
computes least per byte (from a cache it reads twice what it reads from memory; a sum of floats
does not).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from pytest_llmperf import child
from pytest_llmperf.hardware.calibration import Probe

WINDOWS = 20
WINDOW_S = 0.02

_PATIENCE_S = 8.0
_MATMUL_S = 0.05
_MATMULS = 5
_LINE_BYTES = 64
_PIECE_BYTES = 8 * 2**20
"""At most what one call reads: long against the cost of a call, short against a window."""

Reads = list[tuple[float, float]]
"""When each read of one piece began and ended, in s."""


def main() -> None:
    """Try, and print the answer on what was stdout."""
    child.die_with_parent()
    answer_file = os.dup(1)
    os.dup2(2, 1)
    threads, working_set_bytes = (int(word) for word in sys.argv[1:3])
    pieces, piece_bytes = divide(working_set_bytes, threads)
    bandwidths = window_rates(
        stream(threads, pieces, piece_bytes, WINDOWS * WINDOW_S), piece_bytes, WINDOWS
    )
    # Last: the threads of a BLAS library wait for more work by spinning.
    probe = Probe(
        bandwidths=bandwidths,
        working_set_bytes=threads * pieces * piece_bytes,
        threads=threads,
        kernel="numpy bitwise_or of int64",
        matmul_rates=matmul_rates(),
        matmul_dtype="float32",
        matmul=f"numpy matmul ({blas_name()})",
    )
    with os.fdopen(answer_file, "wb") as stream_out:
        stream_out.write(msgspec.json.encode(probe) + b"\n")


def divide(working_set_bytes: int, threads: int) -> tuple[int, int]:
    """How many pieces each thread reads, and their bytes: at least the working set together."""
    pieces = math.ceil(working_set_bytes / threads / _PIECE_BYTES)
    return pieces, math.ceil(working_set_bytes / threads / pieces / _LINE_BYTES) * _LINE_BYTES


def stream(threads: int, pieces: int, piece_bytes: int, seconds: float) -> list[Reads]:
    """Read memory with ``threads`` threads at once for ``seconds``; when each read took place."""
    import numpy as np

    ready = threading.Barrier(threads)
    reads: list[Reads] = [[] for _ in range(threads)]
    read = np.bitwise_or.reduce
    clock = time.perf_counter

    def work(index: int) -> None:
        # Written by the thread that reads it: on a system of several memories it lies near.
        memory = [np.empty(piece_bytes // 8, np.int64) for _ in range(pieces)]
        for piece in memory:
            np.copyto(piece, 1)
        ready.wait(_PATIENCE_S)  # in vain when another thread found no memory
        mine, end = reads[index], clock() + seconds
        while not mine or mine[-1][1] < end:
            for piece in memory:
                began = clock()
                read(piece)
                mine.append((began, clock()))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return reads


def window_rates(reads: Sequence[Reads], piece_bytes: int, windows: int) -> tuple[float, ...]:
    """Bytes/s of all threads together in each of equally long windows.

    The windows fill the time in which every thread was reading. A read that lies in two of them
    counts in each by its share of the time.
    """
    began = max(mine[0][0] for mine in reads)
    length = (min(mine[-1][1] for mine in reads) - began) / windows
    amounts = [0.0] * windows
    for start, end in (read for mine in reads for read in mine):
        first, last = (int((moment - began) // length) for moment in (start, end))
        for index in range(max(first, 0), min(last, windows - 1) + 1):
            left = began + index * length
            overlap = min(end, left + length) - max(start, left)
            amounts[index] += piece_bytes * max(0.0, overlap) / (end - start)
    return tuple(amount / length for amount in amounts)


def matmul_rates() -> tuple[float, ...]:
    """Floating-point operations per second of some multiplications of about 50 ms each."""
    import numpy as np

    size, rate = 512, 0.0
    for _ in range(3):  # the first one starts the threads; the last one has the final size
        rate = _matmul_rate(np, size)
        size = min(8192, max(512, round((rate * _MATMUL_S / 2) ** (1 / 3) / 128) * 128))
    return tuple(_matmul_rate(np, size) for _ in range(_MATMULS))


def _matmul_rate(np: Any, size: int) -> float:
    left, right, product = (np.ones((size, size), np.float32) for _ in range(3))
    began = time.perf_counter()
    np.matmul(left, right, out=product)
    return 2.0 * size**3 / (time.perf_counter() - began)


def blas_name() -> str:
    """Name and version of the library that numpy multiplies with."""
    import numpy as np

    built: Any = np.show_config(mode="dicts")
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return " ".join(str(blas[key]) for key in ("name", "version") if key in blas) or "unknown BLAS"


if __name__ == "__main__":
    main()
