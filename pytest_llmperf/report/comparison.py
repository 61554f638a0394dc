"""How is a comparison of two arms told: in two lines, and when it is red?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report import words
from pytest_llmperf.report.result import Comparison, RatioCheck

MEMORY_LIMIT, PERPLEXITY_LIMIT = "max_memory_ratio", "max_perplexity_increase"
SLOWDOWN_LIMIT, SPEEDUP_LIMIT = "max_slowdown", "min_speedup"
"""The keywords of the limits, with which their texts begin."""

_INDENT, _NAME = 2, 11


def comparison_line(compared: Comparison, test: str = "") -> str:
    """``decode: A (quantization Q4_K_M) is 1.42 × B (…)``, and how sure that is, folded.

    ``test``: whose comparison it is, for where those of several stand together.
    """
    where = f"{test}: " if test else ""
    label = f"{where}{BY_NAME[compared.metric].label}"
    if compared.ratio is None:
        text = f"{label}: {compared.label_a} against {compared.label_b}: {compared.invalid}"
        return "\n".join(words.folded(text, _INDENT))
    ratio = words.number(compared.ratio)
    head = words.folded(f"{label}: {compared.label_a} is {ratio} × {compared.label_b}", _INDENT)
    return "\n".join([*head, *words.folded(f"  {_certainty(compared)}", _INDENT)])


def _certainty(compared: Comparison) -> str:
    """``1.38–1.46 by 4 pairs; memory 0.61 ×; perplexity 1.012 ×, 1.008–1.016``."""
    assert compared.low is not None
    assert compared.high is not None
    between = f"{words.number(compared.low)}–{words.number(compared.high)}"
    pairs = f"{between} by {words.count(compared.pairs, 'pair')}"
    memory = f"memory {compared.memory_ratio:.2f} ×" if compared.memory_ratio is not None else ""
    return "; ".join(filter(None, (pairs, memory, _perplexity(compared))))


def _perplexity(compared: Comparison) -> str:
    """The ratio with its interval, or why there is none where no limit says so."""
    unknown, ratio = compared.perplexity_unknown, compared.perplexity_ratio
    if unknown and not any(unknown in check.reason for check in compared.checks):
        return f"no ratio of perplexity: {unknown}"
    if ratio is None:
        return ""
    low, high = compared.perplexity_low, compared.perplexity_high
    is_sure = low is not None and high is not None and high < math.inf
    return f"perplexity {ratio:.4g} ×{f', {low:.4g}–{high:.4g}' if is_sure else ''}"


def comparison_text(
    compared: Sequence[Comparison], hardware: Hardware | None = None, *, strict: bool
) -> str:
    """Every comparison that turns a test red; empty if none does."""
    red = [each for each in compared if each.verdict and each.verdict.fails(strict=strict)]
    return "\n".join(line for each in red for line in _block(each, hardware))


def _block(compared: Comparison, hardware: Hardware | None) -> list[str]:
    lines = [part for line in _headlines(compared) for part in words.folded(line, _INDENT)]
    if compared.ratio is not None:
        label = BY_NAME[compared.metric].label
        ratio = f"{label} {words.number(compared.ratio)}, {_certainty(compared)}"
        lines += _row("ratio", ratio)
        lines += _row("arms", f"{compared.label_a}, {compared.label_b}")
    lines += [part for each in _engines(compared) for part in _row("engine", each)]
    if hardware is not None:
        lines += _row("machine", words.machine(hardware))
    measured = [*compared.a, *compared.b]
    if measured:
        lines += _row("state", " · ".join(_state(measured)))
    findings = dict.fromkeys(finding for each in measured for finding in each.findings)
    return [*lines, *(part for finding in findings for part in _row("note", finding))]


def _headlines(compared: Comparison) -> list[str]:
    if compared.invalid is not None:
        return [f"comparison invalid: {compared.invalid}"]
    broken = [
        f"perf comparison broken: {_against(compared, check)}"
        for check in compared.checks
        if check.verdict is Verdict.OVER_BUDGET
    ]
    return broken or [
        f"red under --llmperf-strict: {check.reason}" for check in compared.checks if check.reason
    ]


def _against(compared: Comparison, check: RatioCheck) -> str:
    """``A is 1.02 × B < min_speedup=1.1``: the value as the limit counts it."""
    keyword, _, text = check.text.partition("=")
    limit = float(text)
    if keyword == MEMORY_LIMIT:
        assert compared.memory_ratio is not None
        return f"A takes {words.apart(compared.memory_ratio, limit)} × B's memory > {check.text}"
    if keyword == PERPLEXITY_LIMIT:
        assert compared.perplexity_ratio is not None
        above = words.apart(compared.perplexity_ratio - 1, limit)
        return f"A's perplexity is above B's by {above} > {check.text}"
    assert compared.ratio is not None
    if keyword == SLOWDOWN_LIMIT:
        return f"A is slower than B by {words.apart(1 - compared.ratio, limit)} > {check.text}"
    return f"A is {words.apart(compared.ratio, limit)} × B < {check.text}"


def _engines(compared: Comparison) -> list[str]:
    """Of both arms, once if it is the same; of an arm that was never measured, nothing."""
    arms = {"A": compared.a, "B": compared.b}
    told = {
        arm: f"{seen[0].backend} {seen[0].version}, {words.model(seen[0])}"
        for arm, seen in arms.items()
        if seen
    }
    if len(set(told.values())) == 1 and len(told) == len(arms):
        return [told["A"]]
    return [f"{arm}: {engine}" for arm, engine in told.items()]


def _state(seen: Sequence[Measurement]) -> list[str]:
    """``not throttled``, ``2 of 6 not steady``: what is known of all of them."""
    shares = [each.slowed_share("thermal", "board", "reliability") for each in seen]
    shares += [each.conditions.throttled_share for each in seen if each.conditions is not None]
    slowed = max((share for share in shares if share is not None), default=None)
    known = []
    if slowed is not None:
        known.append(f"throttled {slowed:.0%}" if slowed >= 0.01 else "not throttled")
    restless = sum(not each.steady for each in seen)
    known.append(f"{restless} of {len(seen)} not steady" if restless else "steady")
    return known


def _row(name: str, text: str) -> list[str]:
    return words.folded(f"  {name:<{_NAME}}{text}", _INDENT + _NAME)
