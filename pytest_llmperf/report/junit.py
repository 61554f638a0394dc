"""Which numbers go into JUnit's properties? Builtin types only, so that they survive xdist."""

from __future__ import annotations

from pytest_llmperf.report.result import JudgedMeasurement

OURS = "llmperf"
"""How the names of our properties begin."""


def properties(judged: list[JudgedMeasurement]) -> list[tuple[str, object]]:
    """``llmperf.verdict`` and a median per metric; the measure's name is put in when several."""
    found: list[tuple[str, object]] = []
    for each in judged:
        prefix = f"{OURS}.{each.measurement.name}" if len(judged) > 1 else OURS
        found.append((f"{prefix}.verdict", str(each.verdict.value)))
        for metric, quantity in each.measurement.metrics.items():
            unit = f" {quantity.unit}" if quantity.unit else ""
            found.append((f"{prefix}.{metric}", f"{float(quantity.median):.6g}{unit}"))
    return found
