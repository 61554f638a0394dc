"""Which numbers does a tensor hold: random ones, or those of a file?

A random tensor's numbers depend on the seed and its Hugging Face name alone, so that every format
and quantization of a model holds the same weights. Each number is one of 65,536 equally likely
quantiles of a normal distribution, rounded to bfloat16: drawing one is reading 16 random bits and
looking them up, about thirty times cheaper than a normal generator. Quantiles below 2⁻¹⁷ become
zero, which makes every value exact in float16 too.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from pytest_llmperf.models.architecture import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[[Sequence[Tensor], Sequence[str]], Iterator[Array]]
"""Gives the numbers of tensors, each in the plain type named beside it."""

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
"""Storage of each plain type; bfloat16, which numpy lacks, as its 16 bits."""

_CHUNK = 1 << 20  # numbers drawn by one thread at a time, a multiple of four
_SMALLEST = 2.0**-17
_SMALL_DEVIATION = 0.02


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def generate(tensors: Sequence[Tensor], types: Sequence[str], seed: int) -> Iterator[Array]:
    """Yield the numbers of each tensor in turn, each in the plain type named beside it.

    The next tensor is drawn while the caller writes the last one, so that two tensors are in
    memory at a time.
    """
    with ThreadPoolExecutor(cores()) as pool:
        pending: tuple[Array, list[Future[None]]] | None = None
        for tensor, kind in zip(tensors, types, strict=True):
            following = _start(pool, tensor, seed, kind)
            if pending is not None:
                yield _finished(pending)
            pending = following
        if pending is not None:
            yield _finished(pending)


def stored(tensors: Sequence[Tensor], types: Sequence[str], path: Path) -> Iterator[Array]:
    """Yield the numbers of each tensor of a safetensors file, each in the plain type beside it."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        for tensor, kind in zip(tensors, types, strict=True):
            yield _in_type(file.get_tensor(tensor.name), kind)


def pair_rows(numbers: Array, heads: int) -> Array:
    """Reorder the rows of a query or key matrix from Hugging Face's order to llama.cpp's.

    Hugging Face rotates row i with row i + half of its head; llama.cpp rotates neighbours.
    """
    halves = numbers.reshape(heads, 2, numbers.shape[0] // heads // 2, *numbers.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(numbers.shape))


def _start(
    pool: ThreadPoolExecutor, tensor: Tensor, seed: int, kind: str
) -> tuple[Array, list[Future[None]]]:
    numbers: Array = np.empty(tensor.shape, DTYPES[kind])
    if tensor.init == "constant":
        numbers[...] = _in_type(np.array(tensor.gain, np.float32), kind)
        return numbers, []
    deviation = (
        _SMALL_DEVIATION if tensor.init == "small" else tensor.gain / math.sqrt(tensor.shape[-1])
    )
    table = _quantiles(deviation, kind)
    flat = numbers.reshape(-1)
    jobs = [
        pool.submit(_draw, flat[begin : begin + _CHUNK], table, f"{seed}/{tensor.name}/{begin}")
        for begin in range(0, flat.size, _CHUNK)
    ]
    if tensor.zero_row is None:
        return numbers, jobs
    return numbers, [pool.submit(_silence, jobs, numbers, tensor.zero_row)]


def _finished(pending: tuple[Array, list[Future[None]]]) -> Array:
    numbers, jobs = pending
    for job in jobs:
        job.result()
    return numbers


def _draw(out: Array, table: Array, key: str) -> None:
    digest = hashlib.sha256(key.encode()).digest()
    source = np.random.SFC64(int.from_bytes(digest[:16], "little"))
    words = np.asarray(source.random_raw(-(-out.size // 4)), dtype="<u8")
    # The index is 16 bits wide and the table 2**16 long: "wrap" only skips a bounds check.
    np.take(table, words.view("<u2")[: out.size], out=out, mode="wrap")


def _silence(jobs: list[Future[None]], numbers: Array, row: int) -> None:
    for job in jobs:
        job.result()
    numbers[row] = 0


@functools.cache
def _quantiles(deviation: float, kind: str) -> Array:
    """Return the 65,536 values a number can take, in the storage of ``kind``."""
    normal = NormalDist(0.0, deviation)
    half = np.array([normal.inv_cdf((rank + 0.5) / 65536) for rank in range(32768)], np.float32)
    values = np.concatenate([half, -half[::-1]])
    values[np.abs(values) < _SMALLEST] = 0
    return _in_type(values, kind)


def _in_type(values: Array, kind: str) -> Array:
    """Round float32 values to bfloat16 (ties to even) and store them as ``kind``."""
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    if kind == "BF16":
        return rounded.astype("<u2")
    return (rounded.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(DTYPES[kind])
