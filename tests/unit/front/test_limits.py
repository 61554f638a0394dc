"""Does the typed form of ``perf`` hold what the metric table makes?"""

from __future__ import annotations

from typing import get_type_hints

from pytest_llmperf.gate.budget import KEYWORDS, OTHER_KEYWORDS
from pytest_llmperf.limits import PerfLimits


def test_perf_limits_are_the_keywords_of_the_metric_table() -> None:
    typed = set(PerfLimits.__annotations__)
    real = {*KEYWORDS, *OTHER_KEYWORDS}
    add = "\n".join(f"    {name}: float" for name in KEYWORDS if name not in typed)
    remove = ", ".join(sorted(typed - real))
    assert typed == real, (
        f"pytest_llmperf/limits.py, class PerfLimits: add\n{add or '    nothing'}\n"
        f"and remove {remove or 'nothing'}"
    )


def test_the_other_keywords_are_not_the_metric_tables() -> None:
    assert OTHER_KEYWORDS == ("max_regression", "samples", "timeout_s")
    assert not set(OTHER_KEYWORDS) & set(KEYWORDS)


def test_limits_are_numbers() -> None:
    hints = get_type_hints(PerfLimits)
    assert {hints[name] for name in KEYWORDS} == {float}
    assert [hints[name] for name in OTHER_KEYWORDS] == [str | float, int, float]
