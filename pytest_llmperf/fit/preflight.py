"""May this be loaded, by arithmetic alone?

Refused is only what cannot work: weights and cache alone exceed what there is. What would be
tight is loaded, with a warning. Source of the rule: docs/fitting.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import msgspec

from pytest_llmperf.fit.footprint import RAM, Footprint, Interval, Share
from pytest_llmperf.fit.room import Room

_GIB = 1 << 30
MARGIN_SHARE = 0.10
_MARGIN_BYTES = _GIB


class Fit(Enum):
    """Whether a footprint fits into a room."""

    YES = "fits"
    TIGHT = "tight"
    """Weights and cache do; with buffers and a margin it might not."""
    NO = "does not fit"


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """What the arithmetic says before a load."""

    fit: Fit
    reasons: tuple[str, ...] = ()
    """For each device that is too small, or tight: what is needed and what is there."""

    @property
    def text(self) -> str:
        """All reasons in one line."""
        return "; ".join(self.reasons)


def preflight(footprint: Footprint, room: Room) -> Preflight:
    """Compare what is needed with what there is, device by device."""
    found = list(_compared(footprint, room))
    for fit in (Fit.NO, Fit.TIGHT):
        reasons = tuple(text for each, text in found if each is fit)
        if reasons:
            return Preflight(fit=fit, reasons=reasons)
    return Preflight(fit=Fit.YES)


def _compared(footprint: Footprint, room: Room) -> Iterator[tuple[Fit, str]]:
    for share, available, name in _places(footprint, room):
        if available is None:
            continue
        fit = _fit(share, available)
        if fit is not Fit.YES:
            yield fit, _arithmetic(share, footprint, available, name, fit)


def _places(footprint: Footprint, room: Room) -> Iterator[tuple[Share, int | None, str]]:
    """What each pool of memory has to hold, and what it has."""
    ram, gpus = footprint.on(RAM), footprint.gpus
    if room.is_shared and gpus:
        yield _together([ram, *gpus]), room.ram, "memory shared with the GPU"
        return
    yield ram, room.ram, "RAM"
    for share in gpus:
        index = int(share.device.partition(":")[2])
        available = room.vram[index] if index < len(room.vram) else 0
        yield share, available, "VRAM" if len(room.vram) < 2 else f"VRAM on GPU {index}"


def _together(shares: list[Share]) -> Share:
    whole = shares[0]
    for each in shares[1:]:
        whole = Share(
            device=RAM,
            weights=whole.weights + each.weights,
            copies=whole.copies + each.copies,
            cache=whole.cache + each.cache,
            compute=whole.compute + each.compute,
            overhead=whole.overhead + each.overhead,
        )
    return whole


def _fit(share: Share, available: int) -> Fit:
    if share.needed > available:
        return Fit.NO
    wanted = share.total.high
    margin = min(_MARGIN_BYTES, round(MARGIN_SHARE * wanted))
    return Fit.TIGHT if wanted + margin > available else Fit.YES


def _arithmetic(share: Share, footprint: Footprint, available: int, name: str, fit: Fit) -> str:
    """``needs 7.6 GB RAM or more (weights 6.6 + KV 1.0 at 8192 tokens), has 4.0 GB``."""
    needs = share.needed if fit is Fit.NO else share.total.high
    has = f"{_gb(available)} GB" if available else "none"
    parts = [f"weights {_gb(share.weights.low)}", f"KV {_gb(share.cache)}"]
    rest = share.compute + share.overhead + Interval.exactly(share.copies)
    if fit is Fit.TIGHT:
        parts.append(f"buffers and engine {_gb_range(rest)}")
    at = f"at {footprint.context_tokens} tokens"
    if footprint.sequences > 1:
        at += f" × {footprint.sequences} sequences"
    verb = "needs" if fit is Fit.NO else "may need"
    more = " or more" if fit is Fit.NO else ""
    return f"{verb} {_gb(needs)} GB {name}{more} ({' + '.join(parts)} {at}), has {has}"


def _gb(size: int) -> str:
    if not size:
        return "0"
    return f"{size / _GIB:.1f}" if size >= _GIB // 10 else f"{size / _GIB:.2f}"


def _gb_range(size: Interval) -> str:
    low, high = _gb(size.low), _gb(size.high)
    return low if low == high else f"{low}–{high}"
