"""Is it good enough? Metrics, budgets, baselines and the verdict over them."""

from pytest_llmperf.gate.statistics import Cohort
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary
from pytest_llmperf.gate.verdict import Judgement, Verdict, judge

__all__ = ["Cohort", "InvocationSummary", "Judgement", "SessionSummary", "Verdict", "judge"]
