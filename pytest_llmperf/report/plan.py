"""How does a plan look in a terminal of 80 columns?"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmperf.fit.footprint import Interval
from pytest_llmperf.fit.plan import Planned
from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.room import Room
from pytest_llmperf.fit.speed import Speed
from pytest_llmperf.fit.wanted import Term

_GIB = 1 << 30
_HEAD = (
    f"{'quant.':7} {'context':>7} {'weights':>7} {'KV':>5} {'total GiB':>10} "
    f"{'tok/s':>6} {'prompt/s':>8} runs on"
)
_RULE = "─" * 80


def plan_lines(rows: Sequence[Planned]) -> list[str]:
    """A line for each row."""
    return [_HEAD, _RULE, *(_line(row) for row in rows)]


def reason_lines(rows: Sequence[Planned]) -> list[str]:
    """Why the smallest row that does not fit does not, and what ``≤`` means."""
    lines = []
    unfit = [row for row in rows if row.fit is Fit.NO]
    if unfit:
        least = min(unfit, key=lambda row: row.total.low)
        lines.append(
            f"{least.quantization} at {least.context_tokens} tokens does not fit: "
            f"{'; '.join(least.reasons)}."
        )
    if any(row.speed.is_ceiling and row.speed.decode_tps for row in rows):
        lines.append("≤: what the memory allows; this engine was not measured on such a device.")
    return lines


def budget_line(
    budget: Sequence[Term], picked: Planned | None, rows: Sequence[Planned] = ()
) -> str:
    """Which of ``rows`` meets all demands."""
    asked = ", ".join(each.text for each in budget)
    if picked is None:
        speeds = any(each.name.endswith("tps") for each in budget) and any(
            row.speed.is_ceiling or row.speed.decode_tps is None
            for row in rows
            if row.fit is not Fit.NO
        )
        why = (
            " A speed counts if this engine was measured on such a device and the bandwidth is "
            "known: leave tps out, or plan on the machine itself."
        )
        return f"No row surely meets {asked}.{why if speeds else ''}"
    return f"{asked}: {picked.quantization} at {picked.context_tokens} tokens, on {picked.where}."


def room_line(room: Room) -> str:
    """``here: 22.1 GiB RAM``, ``stated: 8.0 GiB VRAM, 16.0 GiB RAM``."""
    parts = [f"{_gib(each)} GiB VRAM" for each in room.vram]
    if room.ram is not None:
        shared = " shared with the GPU" if room.is_shared else ""
        parts.append(f"{_gib(room.ram)} GiB RAM{shared}")
    return f"{room.name}: {', '.join(parts)}"


def _line(row: Planned) -> str:
    return (
        f"{row.quantization:7} {row.context_tokens:>7} {_gib(row.weights.middle):>7} "
        f"{_gib(row.kv_cache):>5} {_range(row.total):>10} "
        f"{_tps(row.speed.decode_tps, row.speed):>6} {_tps(row.speed.prefill_tps, row.speed):>8} "
        f"{_where(row)}"
    )


def _where(row: Planned) -> str:
    if row.fit is Fit.NO:
        return "does not fit"
    return f"{row.where} tight" if row.fit is Fit.TIGHT else row.where


def _tps(value: float | None, speed: Speed) -> str:
    if value is None:
        return "–"
    digits = f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return f"≤{digits}" if speed.is_ceiling else digits


def _range(interval: Interval) -> str:
    low, high = _gib(interval.low), _gib(interval.high)
    return low if low == high else f"{low}–{high}"


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f}" if size >= _GIB else f"{size / _GIB:.2f}"
