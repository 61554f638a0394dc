"""Does the page say the verdict, what changed, what was skipped and why, and nothing unescaped?"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.summary import InvocationSummary
from pytest_llmperf.gate.verdict import Judgement, Verdict
from pytest_llmperf.measure.quantity import Quantity, summarize
from pytest_llmperf.report.html import writing
from pytest_llmperf.report.html.model import Page, Table
from pytest_llmperf.report.html.writing import as_json, page_of, render, write_html
from pytest_llmperf.report.merged import merge
from pytest_llmperf.report.result import RunResult
from tests.unit.report.many_results import many_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    return many_results(tmp_path_factory.mktemp("machine"), tests=88, sessions=5)


@pytest.fixture(scope="module")
def page(results: dict[str, RunResult]) -> Page:
    return page_of(merge(results))


def texts(table: Table | None) -> list[list[str]]:
    assert table is not None
    return [[each.chip.word if each.chip else each.text for each in row] for row in table.rows]


def test_the_overview_says_the_verdict_and_counts_each_test_once(page: Page) -> None:
    assert page.overview.chip.word == "RED"
    assert page.overview.headline.startswith("10 of 88 tests red: ")
    assert sum(each.count for each in page.overview.counts) == 88
    assert [each.chip.word for each in page.overview.counts][:3] == ["ERROR", "FAILED", "INVALID"]


def test_red_tests_come_with_their_reason_the_worst_first(page: Page) -> None:
    rows = texts(page.overview.red)
    assert len(rows) == 10
    here = "16 cores 12th Gen Intel(R) Core(TM) i7-1260P (avx_vnni), 15 GB RAM · "
    assert rows[:2] == [
        [
            "ERROR",
            "test_fixture",
            "KeyError: 'MODEL'",
            f"{here}linux-x86_64-intel-6-154-16c-avx_vnni",
        ],
        ["ERROR", "test_fixture", "KeyError: 'MODEL'", f"{here}there"],
    ], "which machine it was on"
    assert rows[-1][0] == "REGRESSED"


def test_tests_of_one_name_are_told_apart_by_their_path(results: dict[str, RunResult]) -> None:
    result = only(results["here.json"], Verdict.REGRESSED)
    one = result.tests[0]
    path, _, name = one.test.partition("::")
    other = msgspec.structs.replace(one, test=f"other/{path}::{name}")
    alone, both = (
        page_of(merge({"a": msgspec.structs.replace(result, tests=tests)})).overview
        for tests in ([one], [one, other])
    )
    assert [row[1] for row in texts(alone.red)] == [name]
    assert [row[1] for row in texts(both.red)] == [one.test, other.test]
    assert [row[1] for row in texts(both.changed)] == [one.test, other.test]


def test_what_changed_has_its_normal_and_the_loss_first(page: Page) -> None:
    rows = texts(page.overview.changed)
    assert {row[0] for row in rows} == {"REGRESSED", "INCONCLUSIVE", "IMPROVED"}
    assert rows[0][0] == "REGRESSED"
    assert rows[0][-1] == "−9.0 %"
    figure = page.overview.change_figure
    assert figure is not None
    assert len(figure.data["changes"]) == len(rows)


def test_skips_are_told_by_reason_with_links_to_their_tests(page: Page) -> None:
    first = page.overview.skipped[0]
    assert (first.reason, len(first.tests)) == ("needs a GPU, has none", 6)
    anchors = {test.anchor for test in page.tests}
    assert len(anchors) == 88
    assert {each.href.removeprefix("#") for each in first.tests} <= anchors


def test_machines_engines_tradeoffs_and_sweeps_have_chapters(page: Page) -> None:
    assert [each.title for each in page.chapters] == ["Machines", "Engines", "Trade-offs", "Sweeps"]
    sweep = page.chapters[3].groups[0]
    assert sweep.told[0].startswith("decode: knee at 4: ")
    tradeoff = page.chapters[2].groups[0]
    assert ["Q6_K", "+ dominated"] in [row[:2] for row in texts(tradeoff.table)]


def test_an_anchor_is_the_same_in_every_page(page: Page, results: dict[str, RunResult]) -> None:
    alone = page_of(merge({"here.json": results["here.json"]}))
    assert {each.anchor for each in alone.tests} < {each.anchor for each in page.tests}
    assert [each.title for each in alone.chapters] == ["Engines", "Trade-offs", "Sweeps"]


def test_a_run_without_anything_is_a_page(results: dict[str, RunResult]) -> None:
    empty = msgspec.structs.replace(results["here.json"], tests=[], suite_shifts=[], notes=[])
    page = page_of(merge({"a": empty}))
    assert page.overview.headline == "nothing measured"
    assert (page.overview.chip.word, page.overview.chip.tone) == ("NOTHING MEASURED", "none")
    assert page.title == "– llmperf: nothing measured"
    assert "Red, and why" not in render(page)


def test_a_run_is_red_by_all_tests_together_alone(results: dict[str, RunResult]) -> None:
    passed = only(results["here.json"], Verdict.PASSED)
    assert page_of(merge({"a": passed})).overview.chip.word == "GREEN"
    shift = SuiteShift(verdict=Verdict.REGRESSED, effect=-0.04, needed=-0.01, pairs=9)
    page = page_of(merge({"a": msgspec.structs.replace(passed, suite_shifts=[shift])}))
    assert (page.overview.chip.word, page.overview.chip.tone) == ("RED", "bad")
    assert page.title.startswith("✕ llmperf: red: ")


@pytest.mark.parametrize("verdict", [Verdict.NO_BASELINE, Verdict.INCONCLUSIVE])
def test_a_run_that_found_nothing_good_is_not_green(
    results: dict[str, RunResult], verdict: Verdict
) -> None:
    page = page_of(merge({"a": only(results["here.json"], verdict)}))
    assert (page.overview.chip.word, page.overview.chip.tone) == ("UNDECIDED", "open")
    assert page.title.startswith("? llmperf: undecided: ")


def test_the_interval_of_a_time_is_one_of_times(results: dict[str, RunResult]) -> None:
    """A first token after 115 instead of 100 ms: 15 % more, which is 13 % less speed."""
    result = results["here.json"]
    test = next(each for each in result.tests if each.verdict is Verdict.REGRESSED)
    (judged,) = test.measurements
    pair = msgspec.structs.replace(
        judged.pairs[0],
        key=msgspec.structs.replace(judged.pairs[0].key, metric="ttft"),
        normal=100.0,
        value=115.0,
        judgement=Judgement(
            verdict=Verdict.REGRESSED, effect=100 / 115 - 1, low=-0.17, high=-0.09, mde=0.05
        ),
    )
    judged = msgspec.structs.replace(judged, pairs=[pair])
    test = msgspec.structs.replace(test, measurements=[judged])
    page = page_of(merge({"a": msgspec.structs.replace(result, tests=[test])}))
    (row,) = (row for row in texts(page.tests[0].measured[0].metrics) if row[0] == "first token")
    assert row[-1] == "▼ +15 % of 100 ms (+9.9 % to +20 %), would find +5.3 %"
    assert texts(page.overview.changed)[0][-1] == "+15 %"
    figure = page.overview.change_figure
    assert figure is not None
    (drawn,) = figure.data["changes"]
    assert drawn["text"] == "+15 %"
    assert [drawn[each] for each in ("low", "change", "high")] == pytest.approx(
        [1 / 0.91 - 1, 0.15, 1 / 0.83 - 1]
    )


def test_a_line_tells_what_was_judged(results: dict[str, RunResult]) -> None:
    result = results["here.json"]
    test = next(each for each in result.tests if each.verdict is Verdict.REGRESSED)
    (judged,) = test.measurements
    look = InvocationSummary(log_value=0.0, spread=0.01, n=10)
    pair = msgspec.structs.replace(judged.pairs[0], value=12.5, looks=[look, look])
    metrics = judged.measurement.metrics
    metrics = metrics | {"vram": summarize([6.5], "GiB")}

    def line(**changed: Quantity) -> list[str]:
        seen = msgspec.structs.replace(judged.measurement, metrics=metrics | changed)
        told = msgspec.structs.replace(judged, pairs=[pair], measurement=seen)
        one = msgspec.structs.replace(test, measurements=[told])
        page = page_of(merge({"a": msgspec.structs.replace(result, tests=[one])}))
        return [f"{each.label} {each.text}" for each in page.tests[0].numbers]

    assert line()[0] == "decode 12.5 tok/s", "of all processes, not of the first"
    assert line()[3] == "VRAM 6.50 GiB"
    assert line(vram=summarize([0.0], "GiB"))[3].startswith("RAM ")


def test_the_policy_lets_no_page_lead_elsewhere(page: Page) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', render(page))
    assert policy is not None
    parts = {each.strip() for each in html.unescape(policy[1]).split(";")}
    assert {"default-src 'none'", "base-uri 'none'", "form-action 'none'"} <= parts


def only(result: RunResult, verdict: Verdict) -> RunResult:
    """Its tests of one verdict."""
    tests = [each for each in result.tests if each.verdict is verdict]
    assert tests
    return msgspec.structs.replace(result, tests=tests, suite_shifts=[])


def test_red_tests_are_open_on_paper_by_strictness_too(results: dict[str, RunResult]) -> None:
    result = only(results["here.json"], Verdict.NO_BASELINE)
    failed = [msgspec.structs.replace(each, outcome="failed") for each in result.tests]
    strict = msgspec.structs.replace(result, tests=failed, strict=True)
    assert all(each.opens_in_print for each in page_of(merge({"a": strict})).tests)
    assert not any(each.opens_in_print for each in page_of(merge({"a": result})).tests)


class _Scripts(HTMLParser):
    """The kinds of all script elements, and attributes that run something."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str | None] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.kinds.append(dict(attrs).get("type"))
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize(
    "planted", ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'{{7*7}}"]
)
def test_what_somebody_named_is_escaped(results: dict[str, RunResult], planted: str) -> None:
    result = results["here.json"]
    tests = [
        msgspec.structs.replace(each, test=each.test + planted, reason=planted, told={"x": planted})
        for each in result.tests
    ]
    text = render(page_of(merge({"a": msgspec.structs.replace(result, tests=tests)})))
    found = _Scripts()
    found.feed(text)
    kinds = [each for each in found.kinds if each != "application/json"]
    assert kinds == ["text/plain", None], "the charts and the page's own"
    assert found.handlers == []
    assert html.escape(planted, quote=False) in text.replace("&#34;", '"').replace("&#39;", "'")
    assert "49" not in re.findall(r"'(\d+)", text)


def test_no_data_can_end_their_script() -> None:
    assert "<" not in as_json({"a": "</script><!--"})


def test_the_file_replaces_another_whole_or_not_at_all(
    results: dict[str, RunResult], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "report.html"
    write_html(merge(results), path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "old.html").write_text("old")
    (tmp_path / ".old.html.tmp").mkdir()
    with pytest.raises(OSError, match=r"\.old\.html\.tmp"):
        write_html(merge(results), tmp_path / "old.html")
    assert (tmp_path / "old.html").read_text() == "old"


def test_200_tests_of_50_sessions_fit_into_5_mb(tmp_path: Path) -> None:
    machines = merge(many_results(tmp_path, tests=200, sessions=50))
    assert sum(len(each.tests) for each in machines) == 200
    assert len(render(page_of(machines)).encode()) <= 5_000_000


def test_what_is_missing_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert writing.missing_parts() is None
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "vl_convert" else object()
    )
    assert writing.missing_parts() == (
        'needs vl-convert-python: pip install "pytest-llmperf[html]"'
    )
