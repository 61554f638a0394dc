"""How fast can each GPU read its memory and multiply matrices? The child process that tries.

Run as ``python -m pytest_llmperf.hardware.bandwidth_cuda`` by an interpreter that has torch;
prints one :class:`~pytest_llmperf.hardware.calibration.CudaAnswer` as a line of JSON. Times are
taken by the device's own events. Source: PyTorch's documentation of ``torch.cuda``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from pytest_llmperf import child
from pytest_llmperf.hardware.calibration import CudaAnswer, Probe

_REPEATS = 20
_MATMULS = 5
_WISHED_BYTES = 2 * 2**30
_SIZE = 8192


def main() -> None:
    """Try every GPU, and print the answer on what was stdout."""
    child.die_with_parent()
    answer_file = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer_file, "wb") as stream:
        stream.write(msgspec.json.encode(_answer()) + b"\n")


def _answer() -> CudaAnswer:
    try:
        import torch
    except ImportError as error:
        return CudaAnswer(troubles=(f"torch cannot be imported: {error}",))
    if torch.version.cuda is None or not torch.cuda.is_available():
        return CudaAnswer(troubles=("torch sees no CUDA device",))
    probes, troubles = [], []
    for index in range(torch.cuda.device_count()):
        try:
            probes.append(_probe(torch, index))
        except RuntimeError as error:  # torch's errors of memory and driver are all of this type
            first = next(iter(str(error).splitlines()), "no reason given")
            troubles.append(f"cuda:{index} could not be probed: {first}")
    return CudaAnswer(probes=tuple(probes), troubles=tuple(troubles))


def _probe(torch: Any, index: int) -> Probe:
    """One device. Raises RuntimeError when it has no memory or fails."""
    torch.cuda.set_device(index)
    properties = torch.cuda.get_device_properties(index)
    free_bytes, _ = torch.cuda.mem_get_info(index)
    count = min(_WISHED_BYTES, free_bytes // 2) // 4
    reads = _read_times_s(torch, count)
    size = min(_SIZE, int((free_bytes // 16) ** 0.5) // 128 * 128)
    matmuls = _matmul_times_s(torch, size)
    cache_bytes = int(getattr(properties, "L2_cache_size", 0))
    uuid = getattr(properties, "uuid", None)
    return Probe(
        device=f"GPU-{uuid}" if uuid else f"cuda:{index}",
        index=index,
        bandwidths=tuple(count * 4 / each for each in reads),
        working_set_bytes=count * 4,
        threads=None,
        last_level_cache_bytes=cache_bytes or None,
        kernel="torch sum of float32",
        matmul_rates=tuple(2.0 * size**3 / each for each in matmuls),
        matmul_dtype="bfloat16",
        matmul=f"torch matmul of {size} × {size} (CUDA {torch.version.cuda})",
    )


def _read_times_s(torch: Any, count: int) -> list[float]:
    numbers = torch.ones(count, dtype=torch.float32, device="cuda")
    return _times_s(torch, numbers.sum, _REPEATS)


def _matmul_times_s(torch: Any, size: int) -> list[float]:
    left = torch.ones((size, size), dtype=torch.bfloat16, device="cuda")
    product = torch.empty_like(left)
    return _times_s(torch, lambda: torch.mm(left, left, out=product), _MATMULS)


def _times_s(torch: Any, work: Callable[[], object], repeats: int) -> list[float]:
    """How long the device took for each repeat, after two that are not counted."""
    events = []
    for repeat in range(repeats + 2):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        work()
        ended.record()
        if repeat >= 2:
            events.append((began, ended))
    torch.cuda.synchronize()
    return [began.elapsed_time(ended) / 1e3 for began, ended in events]


if __name__ == "__main__":
    main()
