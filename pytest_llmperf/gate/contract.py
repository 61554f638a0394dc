"""Does the measurement keep its budgets? Contracts: never normalized, never learned."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.gate.budget import Budget, Limits
from pytest_llmperf.gate.verdict import Verdict, worst
from pytest_llmperf.measure import Measurement

NEAR = 0.10
"""A value within this share of its limit is measured once more before it is judged."""


@dataclass(frozen=True)
class Check:
    """One budget against one measurement, both in the metric's unit."""

    budget: Budget
    verdict: Verdict
    measured: float | None
    """None: this measurement does not have the metric."""
    confirmed: float | None = None
    """The same in a fresh worker, when the first value was near the limit."""
    decided: float | None = None
    """The value that was judged: the median of both."""


@dataclass(frozen=True)
class Contract:
    """What became of one measurement."""

    verdict: Verdict | None
    """None: the test has no budgets."""
    checks: tuple[Check, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why the verdict is neither plainly passed nor plainly over budget."""


def judge_contract(
    measurement: Measurement, limits: Limits, confirmation: Measurement | None = None
) -> Contract:
    """Judge one measurement by its test's budgets, with its confirmation where there is one."""
    for seen in (measurement, confirmation):
        if seen is not None and seen.invalid:
            return Contract(Verdict.INVALID, reasons=(seen.invalid,))
    checks = tuple(_check(budget, measurement, confirmation) for budget in limits.budgets)
    verdicts = [check.verdict for check in checks]
    reasons = [
        f"{check.budget.text}: {_undecided(check.budget, measurement)}"
        for check in checks
        if check.verdict is Verdict.INCONCLUSIVE
    ]
    return Contract(worst(verdicts) if verdicts else None, checks, tuple(reasons))


def wants_confirmation(measurement: Measurement, limits: Limits) -> bool:
    """Whether any value is so near its limit that one process is not enough to tell."""
    if measurement.invalid:
        return False
    return any(is_near_in(measurement, budget) for budget in limits.budgets)


def is_near_in(measurement: Measurement, budget: Budget) -> bool:
    """Whether either end of what was measured is near the limit; False where it is absent."""
    if budget.keyword.metric.of_output:
        return False
    value = value_of(measurement, budget)
    if value is None:
        return False
    return is_near(value, budget) or is_near(value - _doubt(measurement, budget), budget)


def is_near(value: float, budget: Budget) -> bool:
    """Whether the value lies within 10 % of the limit, on either side."""
    return abs(value - budget.limit) <= NEAR * budget.limit


def value_of(measurement: Measurement, budget: Budget) -> float | None:
    """What the budget limits: the median, or the percentile its keyword names; None if absent."""
    quantity = measurement.metrics.get(budget.keyword.metric.name)
    if quantity is None:
        return None
    if budget.keyword.percentile is None:
        return quantity.median
    return quantity.percentiles[f"p{budget.keyword.percentile}"]


def _check(budget: Budget, measurement: Measurement, confirmation: Measurement | None) -> Check:
    measured = value_of(measurement, budget)
    if measured is None:
        return Check(budget, Verdict.INCONCLUSIVE, None)
    second = confirmation if is_near_in(measurement, budget) else None
    if second is not None and not _alike(measurement, second, budget):
        second = None
    confirmed = None if second is None else value_of(second, budget)
    seen = [measurement] if second is None or confirmed is None else [measurement, second]
    decided = measured if confirmed is None else (measured + confirmed) / 2
    least = decided - sum(_doubt(each, budget) for each in seen) / len(seen)
    if not budget.broken_by(decided):
        verdict = Verdict.PASSED
    elif budget.broken_by(least):
        verdict = Verdict.OVER_BUDGET
    else:
        verdict = Verdict.INCONCLUSIVE
    return Check(budget, verdict, measured, confirmed, decided)


def _doubt(measurement: Measurement, budget: Budget) -> float:
    """By how much the truth can lie below the value: bounds, and what the kernel may hide."""
    quantity = measurement.metrics[budget.keyword.metric.name]
    return quantity.median - quantity.least


def _alike(first: Measurement, second: Measurement, budget: Budget) -> bool:
    """Whether the second value can confirm the first: no warm load confirms a cold one."""
    if budget.keyword.metric.name != "load":
        return True
    return first.load_facts.temperature == second.load_facts.temperature


def _undecided(budget: Budget, measurement: Measurement) -> str:
    """Why a budget can neither be kept nor broken."""
    name = budget.keyword.metric.name
    quantity = measurement.metrics.get(name)
    if quantity is None:
        why = measurement.absent.get(name)
        missing = f"{name} was not measured by {measurement.backend} on this machine"
        return f"{missing}: {why}" if why else missing
    return (
        f"the truth lies between {quantity.least:.4g} and {quantity.median:.4g} {quantity.unit}, "
        f"and the limit between them ({quantity.how})"
    )
