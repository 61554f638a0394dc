"""Which tier of vector instructions does a processor offer?

Inference engines choose their kernels by these flags, so two machines on different tiers are not
comparable, and a test may require one. Each ladder is ordered from the least to the most; a
processor is on the highest rung whose flags it has all of.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

TIERS: dict[str, tuple[tuple[str, frozenset[str]], ...]] = {
    "x86": (
        ("sse2", frozenset({"sse2"})),
        ("sse4_2", frozenset({"sse4_2"})),
        ("avx", frozenset({"avx"})),
        ("avx2", frozenset({"avx2", "fma", "f16c"})),
        ("avx_vnni", frozenset({"avx2", "avx_vnni"})),
        # the five that x86-64-v4 asks for
        ("avx512", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
        ("avx512_vnni", frozenset({"avx512f", "avx512_vnni"})),
        ("amx", frozenset({"amx_tile", "amx_int8"})),
    ),
    "arm": (
        ("neon", frozenset({"asimd"})),
        ("dotprod", frozenset({"asimd", "asimddp"})),
        ("i8mm", frozenset({"asimd", "i8mm"})),
        ("sve", frozenset({"sve"})),
        ("sve2", frozenset({"sve2"})),
        ("sme", frozenset({"sme"})),
    ),
}
"""Tier name and the flags of /proc/cpuinfo that make it, per architecture family."""

_MORE_FEATURES = frozenset(
    {"avx512_bf16", "avx512_fp16", "amx_bf16", "asimdhp", "bf16", "svei8mm", "svebf16", "sme2"}
)
_BY_NAME = {name: flags for ladder in TIERS.values() for name, flags in ladder}

FEATURES = frozenset(_MORE_FEATURES.union(*_BY_NAME.values()))
"""Flags worth recording; all others are dropped."""

KNOWN_NAMES = frozenset(FEATURES | _BY_NAME.keys())
"""What a test may require: tiers and single flags."""

UNKNOWN = "unknown"


def tier(features: Collection[str]) -> str:
    """Highest tier whose flags are all among ``features``; ``unknown`` if none is."""
    found = UNKNOWN
    for ladder in TIERS.values():
        for name, flags in ladder:
            if flags <= set(features):
                found = name
    return found


def offers(features: Collection[str], name: str) -> bool:
    """Whether the processor with these flags offers the tier or flag ``name``.

    Raises ValueError if ``name`` is neither.
    """
    check(name)
    return _BY_NAME.get(name, frozenset({name})) <= set(features)


def check(name: str) -> None:
    """Raise ValueError, with the known names, if ``name`` is no tier and no flag."""
    if name in KNOWN_NAMES:
        return
    near = difflib.get_close_matches(name.lower(), KNOWN_NAMES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"unknown CPU tier or feature {name!r}.{hint} Known: {', '.join(sorted(KNOWN_NAMES))}"
    )
