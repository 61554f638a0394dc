"""Does a planted script stay a text, wherever somebody may name something?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.measure import Measurement
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.report.result import Claim, JudgedTest, RunResult
from tests.browser.conftest import Open
from tests.unit.report.many_results import a_comparison

PLANTED = [
    "</script><script>window.planted=1</script>",
    '"><img src=x onerror="window.planted=1">',
    "'-(window.planted=1)-'",
    "<svg onload=window.planted=1>",
    "{{ 7*7 }}<!--<script>window.planted=1//",
    "javascript:window.planted=1",
    "a|b `c` \N{ROCKET} \u2028 \U0001f468‍\U0001f469‍\U0001f467 日本語",
    "x" * 4000,
]


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_script_never_runs(
    open_page: Open,
    page_of_one: Callable[..., Path],
    results: dict[str, RunResult],
    planted: str,
) -> None:
    measured = [each for each in results["here.json"].tests if each.measurements]
    tests = [_planted(each, planted) for each in measured[:16]]
    skipped = JudgedTest(
        test=f"t.py::{planted}s", outcome="skipped", verdict=None, measurements=[], reason=planted
    )
    armed = JudgedTest(
        test=f"t.py::{planted}c",
        outcome="passed",
        verdict=Verdict.PASSED,
        measurements=[],
        comparisons=[a_comparison(planted)],
    )
    file = page_of_one(tests=[*tests, skipped, armed], notes=[planted])
    page = open_page(file).page
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    page.evaluate("document.querySelectorAll('.drawing').forEach(draw)")
    page.wait_for_function(
        "[...document.querySelectorAll('.drawing')].every(e => e.dataset.drawn == 'done')"
    )
    point = page.locator("[aria-roledescription=point]").first
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    told = page.locator("#vg-tooltip-element").evaluate("e => e.textContent")
    assert planted[:20].split(maxsplit=1)[0] in told, "a tooltip tells it"
    assert page.evaluate("window.planted") is None
    assert page.locator("img").count() == 0
    assert page.locator("details.test").count() == 18
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    first = page.locator("details.test").first
    assert planted in first.evaluate("e => e.dataset.test")
    assert planted in first.evaluate("e => e.textContent")
    found = page.evaluate(
        "id => named('#' + encodeURIComponent(id)).dataset.test",
        tests[0].test,
    )
    assert found == tests[0].test


def _planted(test: JudgedTest, planted: str) -> JudgedTest:
    """With it in every place that takes a text."""
    (judged,) = test.measurements
    seen: Measurement = msgspec.structs.replace(
        judged.measurement,
        name=planted,
        spec=ModelSpec(f"synthetic:{planted}"),
        backend=planted,
        version=planted,
        findings=[planted],
        absent={"vram": planted},
        requested={planted: planted},
    )
    pairs = [
        msgspec.structs.replace(
            pair,
            judgement=msgspec.structs.replace(pair.judgement, reasons=(planted,)),
            earlier=[msgspec.structs.replace(each, commit=planted[:80]) for each in pair.earlier],
        )
        for pair in judged.pairs
    ]
    changed = msgspec.structs.replace(
        judged, measurement=seen, pairs=pairs, reasons=[planted], second_look=[]
    )
    return msgspec.structs.replace(
        test,
        test=f"{test.test}{planted}",
        measurements=[changed],
        reason=planted,
        claim=Claim(text=planted, instead=planted),
        told={planted: planted},
        parameters={planted: planted},
    )


def test_a_script_that_got_in_would_be_stopped_by_the_policy(
    open_page: Open, report: Path, tmp_path: Path
) -> None:
    text = report.read_text(encoding="utf-8")
    spoiled = text.replace("<main>", "<main><script>window.planted=1</script>", 1)
    (tmp_path / "spoiled.html").write_text(spoiled, encoding="utf-8")
    opened = open_page(tmp_path / "spoiled.html")
    assert opened.page.evaluate("window.planted") is None
    assert any("Content Security Policy" in each for each in opened.said)
    opened.said.clear()
