"""Which Apple computer is this?

Apple Silicon has one pool of memory for processor and GPU. Source: sysctl(3) and Apple's list of
``hw.optional.arm`` keys in "Determining instruction set characteristics".
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from pytest_llmperf.hardware import isa, names
from pytest_llmperf.hardware.facts import Accelerator, Cpu
from pytest_llmperf.hardware.files import number

Sysctl = Callable[[str], str | None]
"""Reads one value by name; None if the system does not know it."""

_DEADLINE_S = 5.0
_ARM_KEYS = {
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.arm.FEAT_SME2": "sme2",
}
_INTEL_FLAGS = {"SSE4.2": "sse4_2", "AVX1.0": "avx", "AVX2": "avx2"}


def sysctl(name: str) -> str | None:
    """The value of ``sysctl -n NAME``; None if unknown, or if sysctl cannot be run."""
    try:
        answer = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name],
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def cpu(read: Sysctl) -> Cpu:
    """The processor of a Mac. macOS has neither affinity nor control groups."""
    logical = number(read("hw.logicalcpu")) or 1
    brand = read("machdep.cpu.brand_string")
    silicon = _is_silicon(read)
    features = _silicon_features(read) if silicon else _intel_features(read)
    return Cpu(
        vendor="apple" if silicon else "intel",
        family=None if silicon else read("machdep.cpu.family"),
        model_number=None if silicon else read("machdep.cpu.model"),
        model_name=brand,
        logical_cores=logical,
        allowed_cores=logical,
        usable_cores=logical,
        cpu_quota=None,
        isa=isa.tier(features),
        features=features,
        # Per performance core and per cluster; sysctl does not tell how many instances there are.
        l1d_cache_bytes=None,
        l2_cache_bytes=None,
        l3_cache_bytes=None,
    )


def accelerators(read: Sysctl, version: str) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """The Metal GPU of Apple Silicon, and findings. ``version`` is that of macOS."""
    if not _is_silicon(read):
        return (), ("the GPU of an Intel Mac is not detected: measuring on the CPU",)
    gpu = Accelerator(
        kind="metal",
        vendor="apple",
        name=names.normalized(read("machdep.cpu.brand_string") or "Apple Silicon"),
        integrated=True,
        driver=f"macOS {version}",
    )
    return (gpu,), ()


def _is_silicon(read: Sysctl) -> bool:
    """True also under Rosetta, where the platform module answers x86_64."""
    return read("hw.optional.arm64") == "1"


def _silicon_features(read: Sysctl) -> tuple[str, ...]:
    return tuple(sorted({"asimd", *(flag for key, flag in _ARM_KEYS.items() if read(key) == "1")}))


def _intel_features(read: Sysctl) -> tuple[str, ...]:
    """Flags of an Intel Mac; sysctl says ``AVX512F`` where Linux says ``avx512f``."""
    stated = (
        f"{read('machdep.cpu.features') or ''} {read('machdep.cpu.leaf7_features') or ''}"
    ).split()
    translated = {_INTEL_FLAGS.get(flag, flag.lower()) for flag in stated}
    return tuple(sorted(translated & isa.FEATURES))
