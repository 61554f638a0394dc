"""What must a plan achieve? ``tps>=20, vram<=6``, read and checked."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from pytest_llmperf.fit.plan import Planned
from pytest_llmperf.fit.preflight import Fit

_GIB = 1 << 30
_TERM = re.compile(r"\s*(?P<name>\w+)\s*(?P<sign>>=|<=)\s*(?P<value>\d+(\.\d+)?)\s*")
_SIGNS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


class BadBudget(ValueError):
    """A budget that means nothing; the message says why."""


class _Quantity(msgspec.Struct, frozen=True):
    sign: str
    read: Callable[[Planned], float | None]
    unit: str


_QUANTITIES = {
    "tps": _Quantity(">=", lambda row: row.speed.decode_tps, "tok/s"),
    "prefill_tps": _Quantity(">=", lambda row: row.speed.prefill_tps, "tok/s"),
    "context": _Quantity(">=", lambda row: float(row.context_tokens), "tokens"),
    "ram": _Quantity("<=", lambda row: row.ram.high / _GIB, "GiB"),
    "vram": _Quantity("<=", lambda row: row.vram.high / _GIB if row.vram else 0.0, "GiB"),
}
"""Memory by the high end of its interval."""


class Term(msgspec.Struct, frozen=True):
    """One demand."""

    name: str
    value: float

    @property
    def text(self) -> str:
        """``tps >= 20 tok/s``."""
        quantity = _QUANTITIES[self.name]
        return f"{self.name} {quantity.sign} {self.value:g} {quantity.unit}"

    def is_met(self, row: Planned) -> bool:
        """Whether a row surely meets it: what is not known, or only a ceiling, does not."""
        quantity = _QUANTITIES[self.name]
        value = quantity.read(row)
        if value is None or (self.name.endswith("tps") and row.speed.is_ceiling):
            return False
        return _SIGNS[quantity.sign](value, self.value)


def read_budget(text: str) -> tuple[Term, ...]:
    """Terms of ``tps>=20, vram<=6``; memory in GiB. Raises BadBudget."""
    return tuple(_term(part) for part in text.split(",") if part.strip()) or _refuse(text)


def _term(part: str) -> Term:
    match = _TERM.fullmatch(part)
    if match is None:
        _refuse(part)
    name = "tps" if match["name"] == "decode_tps" else match["name"]
    if name not in _QUANTITIES:
        near = difflib.get_close_matches(name, _QUANTITIES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise BadBudget(
            f"budget {part.strip()!r}: {name!r} is not planned.{hint} Known: "
            f"{', '.join(_QUANTITIES)}."
        )
    sign = _QUANTITIES[name].sign
    if match["sign"] != sign:
        raise BadBudget(f"budget {part.strip()!r}: of {name} only {sign} can be asked.")
    return Term(name, float(match["value"]))


def _refuse(text: str) -> NoReturn:
    raise BadBudget(f"budget {text.strip()!r} is not of the form tps>=20, vram<=6.")


def pick(rows: Sequence[Planned], terms: Sequence[Term]) -> Planned | None:
    """The best row that fits and meets all terms: most bytes of weights, then longest context."""
    good = [row for row in rows if row.fit is Fit.YES and all(each.is_met(row) for each in terms)]
    return max(good, key=lambda row: (row.weights.low, row.context_tokens), default=None)
