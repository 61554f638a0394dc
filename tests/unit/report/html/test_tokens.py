"""Can everybody read the page's colours, in the light and in the dark?"""

from __future__ import annotations

import importlib.resources
import re

import pytest

from pytest_llmperf.report import html
from pytest_llmperf.report.html import figures
from pytest_llmperf.report.html.tokens import DARK, LIGHT, PAIRS, contrast


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#ffffff", "#777777") == contrast("#777777", "#ffffff")


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("one", "other", "least"), PAIRS)
def test_every_pair_stands_out(one: str, other: str, least: float, theme: dict[str, str]) -> None:
    assert contrast(theme[one], theme[other]) >= least


def test_both_themes_have_the_same_tokens_and_each_is_used() -> None:
    assert LIGHT.keys() == DARK.keys()
    style = (importlib.resources.files(html) / "style.css").read_text()
    used = set(re.findall(r"var\(--([a-z-]+)\)", style + str(figures.KINDS) + str(figures.CONFIG)))
    assert used == LIGHT.keys()


def test_every_mark_of_a_chart_is_a_stated_pair() -> None:
    stated = {one for one, other, _ in PAIRS if other == "ground"}
    marks = set(re.findall(r"var\(--([a-z-]+)\)", str(figures.KINDS)))
    assert marks - stated == {"line"}, "a faint line repeats what the points say"
