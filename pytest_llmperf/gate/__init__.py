"""Is it good enough? Metrics, budgets, baselines and the verdict over them."""

from pytest_llmperf.gate.statistics import Cohort
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary
from pytest_llmperf.gate.verdict import Cause, Judgement, Verdict, judge

__all__ = [
    "Cause",
    "Cohort",
    "InvocationSummary",
    "Judgement",
    "SessionSummary",
    "Verdict",
    "judge",
]
