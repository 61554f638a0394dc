"""How fast can this machine read memory and multiply, measured now?

A child process tries (:mod:`pytest_llmperf.hardware.bandwidth`, or on GPUs
:mod:`pytest_llmperf.hardware.bandwidth_cuda`), so that numpy and its threads never enter ours and
no model lies in the memory that is read. It must not run while anything else is measured.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import msgspec

from pytest_llmperf import child
from pytest_llmperf.ending import exit_clause, last_line, last_words
from pytest_llmperf.hardware.facts import Cpu, Memory

DEADLINE_S = 10.0
"""A probe of two cores takes 1 s; the memory of large machines takes longer to be touched."""
CUDA_DEADLINE_S = 60.0
"""Importing torch and waking a GPU takes most of it."""
DISTURBED = 1.25
"""A best this much above the median was not the usual case."""

_PROGRAM = "pytest_llmperf.hardware.bandwidth"
_CUDA_PROGRAM = "pytest_llmperf.hardware.bandwidth_cuda"
_LEAST_BYTES = 256 * 2**20
_LARGEST_SHARE = 8  # of the usable memory, the probe takes at most one part of so many
_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What a child process measured of one device, as it reports it."""

    device: str = "cpu"
    index: int | None = None
    """Torch's number of a GPU."""
    bandwidths: tuple[float, ...]
    """Of each repeat, in bytes/s."""
    working_set_bytes: int
    threads: int | None
    last_level_cache_bytes: int | None = None
    kernel: str
    matmul_rates: tuple[float, ...] = ()
    """Of each repeat, in floating-point operations/s."""
    matmul_dtype: str | None = None
    matmul: str | None = None


class CudaAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the child process for GPUs prints, as one line of JSON."""

    probes: tuple[Probe, ...] = ()
    troubles: tuple[str, ...] = ()
    """Why there are fewer probes than devices."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one device as one probe found them; bandwidths in bytes/s."""

    device: str
    """``cpu``, or the UUID of a GPU as NVML writes it."""
    index: int | None = None
    """Torch's number of a GPU; None: the CPU."""
    bandwidth_best: float
    """The ceiling: the fastest repeat."""
    bandwidth_median: float
    bandwidth_low: float
    """First quartile."""
    bandwidth_high: float
    """Third quartile."""
    repeats: int
    working_set_bytes: int
    last_level_cache_bytes: int | None
    threads: int | None
    """None: of a GPU."""
    flops_best: float | None
    """Floating-point operations/s of the fastest matrix multiplication."""
    flops_dtype: str | None
    how: str
    wall_s: float
    """What the probe took, its process included."""
    findings: tuple[str, ...] = ()


def last_level_cache_bytes(cpu: Cpu) -> int | None:
    """What L2 and L3 of the allowed cores hold together; None: neither is told.

    Together, because L3 takes what L2 gives up on many processors: what is in one is not in the
    other. On many cores L2 alone is larger than L3.
    """
    if cpu.l3_cache_bytes is None and cpu.l2_cache_bytes is None:
        return None
    return (cpu.l3_cache_bytes or 0) + (cpu.l2_cache_bytes or 0)


def working_set_bytes(cache_bytes: int | None, usable_bytes: int) -> int:
    """How much a probe reads: 256 MiB, or twice the cache, within an eighth of the memory."""
    wanted = max(_LEAST_BYTES, 2 * (cache_bytes or 0))
    return max(2**20, min(wanted, usable_bytes // _LARGEST_SHARE))


def calibrate_cpu(
    cpu: Cpu,
    memory: Memory,
    *,
    deadline_s: float = DEADLINE_S,
    environment: Mapping[str, str] | None = None,
) -> Calibration | str:
    """Measure main memory and arithmetic of all usable cores; a text says why it is not known.

    ``memory`` as it is now. ``environment`` is that of the child process, by default ours.
    """
    cache_bytes = last_level_cache_bytes(cpu)
    size = working_set_bytes(cache_bytes, memory.usable_bytes)
    variables = dict(os.environ if environment is None else environment)
    variables |= dict.fromkeys(_THREAD_VARIABLES, str(cpu.usable_cores))
    began = time.monotonic()
    argv = [sys.executable, "-P", "-m", _PROGRAM, str(cpu.usable_cores), str(size)]
    line = _run(argv, variables, deadline_s)
    if isinstance(line, _Failure):
        return f"the memory bandwidth is not known: {line.why}"
    try:
        probe = msgspec.json.decode(line, type=Probe)
    except msgspec.MsgspecError as error:
        return f"the memory bandwidth is not known: the probe's answer is unreadable ({error})"
    if not _believable(probe):
        return f"the memory bandwidth is not known: the probe read {probe.bandwidths} bytes/s"
    return calibration(probe, cache_bytes, time.monotonic() - began)


def calibrate_cuda(
    python: str = sys.executable,
    *,
    deadline_s: float = CUDA_DEADLINE_S,
    environment: Mapping[str, str] | None = None,
) -> tuple[Calibration, ...] | str:
    """Measure every GPU that ``python``'s torch sees; a text says why nothing is known.

    What failed on some devices is a finding of all others.
    """
    variables = dict(os.environ if environment is None else environment)
    began = time.monotonic()
    line = _run([python, "-P", "-m", _CUDA_PROGRAM], variables, deadline_s)
    if isinstance(line, _Failure):
        return f"the GPU's memory bandwidth is not known: {line.why}"
    try:
        answer = msgspec.json.decode(line, type=CudaAnswer)
    except msgspec.MsgspecError as error:
        return f"the GPU's memory bandwidth is not known: unreadable answer ({error})"
    probes = [probe for probe in answer.probes if _believable(probe)]
    if not probes:
        why = "; ".join(answer.troubles) or "torch sees no GPU"
        return f"the GPU's memory bandwidth is not known: {why}"
    wall_s = time.monotonic() - began
    found = (calibration(probe, probe.last_level_cache_bytes, wall_s) for probe in probes)
    return tuple(
        msgspec.structs.replace(one, findings=(*one.findings, *answer.troubles)) for one in found
    )


def _believable(probe: Probe) -> bool:
    """Whether there are rates, all of them finite and above zero."""
    rates = (*probe.bandwidths, *probe.matmul_rates)
    return len(probe.bandwidths) > 1 and all(0 < rate < math.inf for rate in rates)


def calibration(probe: Probe, cache_bytes: int | None, wall_s: float) -> Calibration:
    """What a probe's repeats say, and whether they can be believed."""
    rates = sorted(probe.bandwidths)
    low, median, high = statistics.quantiles(rates, n=4, method="inclusive")
    size = f"{probe.working_set_bytes / 2**20:.0f} MiB"
    where = f" by {probe.threads} threads" if probe.threads else ""
    how = f"{probe.kernel} over {size}{where}"
    return Calibration(
        device=probe.device,
        index=probe.index,
        bandwidth_best=rates[-1],
        bandwidth_median=median,
        bandwidth_low=low,
        bandwidth_high=high,
        repeats=len(rates),
        working_set_bytes=probe.working_set_bytes,
        last_level_cache_bytes=cache_bytes,
        threads=probe.threads,
        flops_best=max(probe.matmul_rates, default=None),
        flops_dtype=probe.matmul_dtype if probe.matmul_rates else None,
        how=f"{how}; {probe.matmul}" if probe.matmul else how,
        wall_s=wall_s,
        findings=tuple(_findings(rates[-1], median, size, probe.working_set_bytes, cache_bytes)),
    )


def _findings(
    best: float, median: float, size: str, size_bytes: int, cache_bytes: int | None
) -> Sequence[str]:
    found = []
    if best > DISTURBED * median:
        found.append(
            f"the bandwidth probe was disturbed: best {best / 1e9:.1f} GB/s, "
            f"median {median / 1e9:.1f} GB/s"
        )
    if cache_bytes is None:
        found.append(
            f"the size of the last-level cache is not known: the bandwidth probe read {size}, "
            "which may be partly from the cache"
        )
    elif size_bytes < 2 * cache_bytes:
        found.append(
            f"the bandwidth probe read {size}, less than twice the {cache_bytes / 2**20:.0f} MiB "
            "last-level cache, because an eighth of the memory is not more: it may be too fast"
        )
    return found


class _Failure(msgspec.Struct, frozen=True):
    """Why a child process gave no answer."""

    why: str


def _run(argv: Sequence[str], variables: Mapping[str, str], deadline_s: float) -> str | _Failure:
    """The last line that the child printed, once it has ended well."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            probe = child.start(
                argv, environment=child.importable(variables), stdout=stdout, stderr=stderr
            )
        except OSError as error:
            return _Failure(f"no process could be started to measure it ({error})")
        try:
            in_time = probe.wait_for_exit(deadline_s)
        except BaseException:  # interrupted: it must not run on beside the next measurement
            probe.end()
            raise
        try:
            code = probe.end()
        except child.Undead as error:
            return _Failure(str(error))
        if not in_time:
            return _Failure(f"the probe did not end within {deadline_s:g} s")
        if code:
            return _Failure(f"the probe {exit_clause(code)}{last_words(stderr)}")
        return last_line(stdout)
