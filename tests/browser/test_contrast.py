"""Does every text that is shown stand out from what it stands on, in both themes?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_llmperf.report.html.tokens import DARK, LIGHT, PAIRS, TEXT, contrast
from tests.browser.conftest import Open

_SEEN = """() => {
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
    const inSvg = element.closest("svg");
    const style = getComputedStyle(element);
    let under = element, ground = "rgba(0, 0, 0, 0)";
    while (under && ground.endsWith(", 0)")) {
      ground = getComputedStyle(under).backgroundColor;
      under = under.parentElement;
    }
    found.add(`${inSvg ? style.fill : style.color} on ${ground}`);
  }
  return [...found];
}"""


@pytest.mark.parametrize(("scheme", "theme"), [("light", LIGHT), ("dark", DARK)])
def test_every_text_stands_out_and_is_a_pair_that_is_stated(
    open_page: Open, report: Path, scheme: str, theme: dict[str, str]
) -> None:
    page = open_page(report, scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    page.evaluate("document.querySelectorAll('.drawing').forEach(draw)")
    page.wait_for_function(
        "[...document.querySelectorAll('.drawing')].every(e => e.dataset.drawn == 'done')"
    )
    seen = page.evaluate(_SEEN)
    assert len(seen) > 10
    stated = {(theme[one], theme[other]) for one, other, least in PAIRS if least == TEXT}
    for each in seen:
        text, ground = map(_hex, each.split(" on "))
        assert contrast(text, ground) >= TEXT, f"{each} in the {scheme}"
        assert (text, ground) in stated, f"{each} in the {scheme} is not among PAIRS"


def _hex(colour: str) -> str:
    red, green, blue, *alpha = map(float, re.findall(r"[\d.]+", colour))
    assert not alpha or alpha == [1.0], f"{colour} is mixed with what lies beneath"
    return f"#{round(red):02x}{round(green):02x}{round(blue):02x}"
