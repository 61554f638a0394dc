"""How is a comparison of two arms told, in one line and when it is red?"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report import words
from pytest_llmperf.report.result import Comparison


def comparison_line(compared: Comparison) -> str:
    """``decode: A (quantization Q4_K_M) is 1.42 (1.38–1.46) × B (…), 4 pairs; memory 0.61 ×``."""
    label = BY_NAME[compared.metric].label
    if compared.ratio is None or compared.low is None or compared.high is None:
        return f"{label}: {compared.label_a} against {compared.label_b}: {compared.invalid}"
    between = f"{words.number(compared.low)}–{words.number(compared.high)}"
    memory = f"; memory {compared.memory_ratio:.2f} ×" if compared.memory_ratio is not None else ""
    return (
        f"{label}: {compared.label_a} is {words.number(compared.ratio)} ({between}) × "
        f"{compared.label_b}, {compared.pairs} pairs{memory}"
    )


def comparison_text(compared: Sequence[Comparison], *, strict: bool) -> str:
    """Every comparison that turns a test red; empty if none does."""
    lines = []
    for each in compared:
        if each.verdict is None or not each.verdict.fails(strict=strict):
            continue
        lines += _headlines(each)
        lines += [f"  ratio      {comparison_line(each)}"]
    return "\n".join(lines)


def _headlines(each: Comparison) -> list[str]:
    if each.invalid is not None:
        return [f"comparison invalid: {each.invalid}"]
    broken = [
        f"perf comparison broken: {check.text}"
        for check in each.checks
        if check.verdict is Verdict.OVER_BUDGET
    ]
    return broken or [
        f"red under --llmperf-strict: {check.reason}" for check in each.checks if check.reason
    ]
