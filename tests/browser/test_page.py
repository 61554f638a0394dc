"""Can a reader find, open, link, print and read what a run came to?"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Open

SHOWN = "details.test:visible"
DRAWN = "details[open] .drawing[data-drawn=done] svg"


def test_the_verdict_comes_first_and_every_test_is_there(open_page: Open, report: Path) -> None:
    page = open_page(report).page
    assert page.title().startswith("✕ llmperf: ")
    assert page.locator("h1").inner_text().startswith("✕ RED ")
    assert "tests red" in page.locator("h1").inner_text()
    assert page.locator(SHOWN).count() == 88
    assert page.locator("#overview").get_by_text("needs a GPU, has none").count() == 1
    first, last = (page.locator(f"{SHOWN} .chip").nth(at).inner_text() for at in (0, -1))
    assert "ERROR" in first, "the worst first"
    assert "SKIPPED" in last


def test_text_verdict_and_machine_filter(open_page: Open, report: Path) -> None:
    page = open_page(report).page
    page.fill("#find", "THREADS llama-160m")
    assert page.locator(SHOWN).count() == 8
    assert page.locator("#shown").inner_text() == "8 of 88 tests"
    page.select_option("#where", "1")
    assert page.locator(SHOWN).count() == 4
    page.select_option("#only", "REGRESSED")
    assert page.locator(SHOWN).count() == 0
    assert page.locator("#none").is_visible()
    page.click("#all")
    assert page.locator(SHOWN).count() == 88
    page.click(".count[data-verdict=REGRESSED]")
    assert page.get_attribute(".count[data-verdict=REGRESSED]", "aria-pressed") == "true"
    chips = page.locator(f"{SHOWN} > summary .chip").all_inner_texts()
    assert chips
    assert all("REGRESSED" in each for each in chips)


def test_sorting_goes_by_numbers_and_back(open_page: Open, report: Path) -> None:
    page = open_page(report).page

    def values(name: str) -> list[float]:
        every = page.locator("details.test").evaluate_all(f"all => all.map(e => e.dataset.{name})")
        return [float(each) for each in every if each]

    page.click("[data-sort=n0]")
    falling = values("n0")
    assert falling == sorted(falling, reverse=True)
    page.click("[data-sort=n0]")
    assert values("n0") == falling[::-1] or values("n0") == sorted(falling)
    page.click("[data-sort=n4]")
    changes = values("n4")
    assert changes == sorted(changes), "the largest loss first"
    assert changes[0] == pytest.approx(-0.09)
    without = page.locator("details.test").last
    assert without.get_attribute("data-n4") is None, "what has no number comes last"


def test_an_open_test_draws_its_charts(open_page: Open, report: Path) -> None:
    page = open_page(report).page
    page.fill("#find", "test_threads[8]")
    assert page.locator(DRAWN).count() == 0
    page.locator(f"{SHOWN} > summary").first.click()
    titles = page.locator("details[open] figure h5").all_inner_texts()
    assert titles == [
        "decode, tok/s over 13 sessions",
        "prefill, tok/s over 13 sessions",
        "RAM, GiB over 13 sessions",
        "decode, tok/s: samples",
        "prefill, tok/s: samples",
        "latency percentiles, ms",
        titles[6],
        "under the roofline",
    ]
    assert titles[6].startswith("memory by phase, ")
    for number in range(len(titles)):
        page.locator("details[open] .drawing").nth(number).scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelectorAll('{DRAWN}').length == {len(titles)}")
    series = page.locator("details[open] figure").first
    dots = "[aria-roledescription=point]"
    assert series.locator(dots).count() == 13, "each session, and this run"
    assert series.locator(".mark-area path").count() == 1, "a band"
    assert "Band: " in series.locator("figcaption").inner_text()


def test_every_kind_of_chart_is_drawn(open_page: Open, report: Path) -> None:
    page = open_page(report).page
    page.evaluate("document.querySelectorAll('details.test').forEach(e => e.open = true)")
    page.evaluate("document.querySelectorAll('.drawing').forEach(draw)")
    page.wait_for_function(
        "[...document.querySelectorAll('.drawing')].every(e => e.dataset.drawn == 'done')"
    )
    kinds = page.evaluate(
        "[...new Set([...document.querySelectorAll('.drawing:has(svg)')].map(e => e.dataset.kind))]"
    )
    assert set(kinds) == set(page.evaluate("Object.keys(kinds)"))
    unmarked = page.evaluate(
        "[...document.querySelectorAll('.drawing svg')].filter(e => !e.querySelector"
        "('.mark-symbol path, .mark-rect path, .mark-rule line, .mark-line path')).length"
    )
    assert unmarked == 0, "no chart is empty"
    assert page.locator("figure:not(:has(figcaption))").count() == 0


def test_links_open_their_test(open_page: Open, report: Path) -> None:
    nodeid = "tests/perf/test_threads.py::test_threads[4]"
    page = open_page(report, fragment=f"#{nodeid}").page
    (test,) = page.locator("details.test[open]").all()
    assert test.get_attribute("data-test") == nodeid
    assert test.locator("> summary").evaluate("e => e === document.activeElement")
    anchor = test.get_attribute("id")
    again = open_page(report, fragment=f"#{anchor}").page
    assert again.locator("details.test[open]").get_attribute("data-test") == nodeid


def test_a_link_of_the_overview_shows_even_what_was_filtered_away(
    open_page: Open, report: Path
) -> None:
    page = open_page(report).page
    page.fill("#find", "threads")
    page.locator("#overview td a").first.click()
    (test,) = page.locator("details.test[open]").all()
    assert test.is_visible()
    assert page.input_value("#find") == ""
    assert page.url.endswith(f"#{test.get_attribute('id')}")


def test_keys_find_move_open_close_and_help(open_page: Open, report: Path) -> None:
    page = open_page(report).page
    page.keyboard.press("/")
    page.keyboard.type("threads")
    assert page.locator(SHOWN).count() == 8
    page.keyboard.press("Escape")
    for key in ("j", "j", "k", "j"):
        page.keyboard.press(key)
    second = page.locator(SHOWN).nth(1)
    assert second.locator("> summary").evaluate("e => e === document.activeElement")
    page.keyboard.press("Enter")
    assert second.evaluate("e => e.open")
    page.keyboard.press("Tab")
    inside = "e => e.querySelector('.body').contains(document.activeElement)"
    assert second.evaluate(inside), "the focus goes into what is open"
    page.keyboard.press("Escape")
    assert not second.evaluate("e => e.open")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("?")
    page.locator("#help button").click()
    assert not page.locator("#help").is_visible()


def test_the_first_tab_skips_to_the_tests(open_page: Open, report: Path) -> None:
    page = open_page(report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the tests"
    page.keyboard.press("Enter")
    assert page.url.endswith("#tests")


def test_the_theme_follows_the_system_until_it_is_switched(open_page: Open, report: Path) -> None:
    page = open_page(report, scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    assert page.locator("#theme").inner_text() == "Theme: light"
    light = page.evaluate(ground)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(17, 21, 26)")
    page.keyboard.press("t")
    assert page.evaluate(ground) == dark
    page.reload()
    assert page.locator("#theme").inner_text() == "Theme: dark", "it is remembered"


def test_paper_shows_what_is_red_with_its_charts(open_page: Open, report: Path) -> None:
    page = open_page(report, scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function("document.querySelectorAll('details.test[open]').length > 0")
    opened = page.locator("details.test[open] > summary .chip").all_inner_texts()
    assert {each.split(" ", 1)[1] for each in opened} == {
        "ERROR", "FAILED", "INVALID", "OVER BUDGET", "REGRESSED",
    }  # fmt: skip
    page.wait_for_function(
        "[...document.querySelectorAll('details.test[open] .drawing')]"
        ".every(e => e.dataset.drawn == 'done')"
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".filters").is_visible()
    page.emulate_media(media="screen")
    page.wait_for_function("document.querySelectorAll('details.test[open]').length == 0")


def with_all_drawn(page: Page) -> Page:
    """Every test opened, and each of its charts there."""
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    page.evaluate("document.querySelectorAll('.drawing').forEach(draw)")
    page.wait_for_function(
        "[...document.querySelectorAll('.drawing')].every(e => e.dataset.drawn == 'done')"
    )
    return page


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(open_page: Open, report: Path, width: int) -> None:
    page = with_all_drawn(open_page(report, width=width).page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


CUT = """
[...document.querySelectorAll('.drawing svg')].flatMap(svg => {
  const page = svg.getBoundingClientRect();
  const words = [...svg.querySelectorAll('.role-mark.mark-text text, .role-legend-label text')];
  return words.filter(each => {
    const box = each.getBoundingClientRect();
    return box.width && (box.right > page.right + 0.5 || box.left < page.left - 0.5
      || box.top < page.top - 0.5 || box.bottom > page.bottom + 0.5);
  }).map(each => `${svg.closest('.drawing').dataset.kind}: ${each.textContent}`);
})
"""


@pytest.mark.parametrize("width", [1280, 400])
def test_no_word_beside_a_mark_is_cut(open_page: Open, report: Path, width: int) -> None:
    page = with_all_drawn(open_page(report, width=width).page)
    memory = page.locator(".drawing[data-kind=memory] svg")
    beside = memory.first.locator(".role-mark.mark-text text").all_text_contents()
    assert len(beside) == 6
    assert all(each.endswith((" exact", " bound")) for each in beside)
    assert page.evaluate(CUT) == []
