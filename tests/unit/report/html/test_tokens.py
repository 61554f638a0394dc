"""Can everybody read the page's colours, in the light and in the dark?"""

from __future__ import annotations

import importlib.resources
import re

import pytest

from pytest_llmperf.report import html
from pytest_llmperf.report.html import drawing, figures
from pytest_llmperf.report.html.tokens import DARK, LIGHT, MARK, PAIRS, contrast


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
    used = set(re.findall(r"var\(--([a-z-]+)\)", style + str(figures.KINDS) + str(drawing.CONFIG)))
    assert used == LIGHT.keys()


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("kind", figures.KINDS)
def test_no_mark_is_too_faint_to_be_seen(kind: str, theme: dict[str, str]) -> None:
    """Where a filling is, edges say where it ends: its own, or lines along it."""
    layers = figures.KINDS[kind]["layer"]
    lines = {one["encoding"]["y"]["field"] for one in layers if one["mark"]["type"] == "line"}
    for layer in layers:
        mark, encoding = layer["mark"], layer["encoding"]
        assert "strokeOpacity" not in mark
        if "fillOpacity" in mark and mark["type"] == "area":
            assert {encoding["y"]["field"], encoding["y2"]["field"]} <= lines
        elif "fillOpacity" in mark:
            assert "stroke" in mark
        ink = mark.get("stroke", mark.get("color"))
        if ink not in {None, "var(--line)"}:
            shown = _over(theme[ink[6:-1]], theme["ground"], mark.get("opacity", 1))
            assert contrast(shown, theme["ground"]) >= MARK, mark


def _over(ink: str, ground: str, opacity: float) -> str:
    """``ink`` laid over ``ground``."""
    parts = [[int(each[at : at + 2], 16) for at in (1, 3, 5)] for each in (ink, ground)]
    mixed = (opacity * one + (1 - opacity) * other for one, other in zip(*parts, strict=True))
    return "#" + "".join(f"{round(each):02x}" for each in mixed)


def test_a_text_stands_beside_its_bar_and_not_over_it() -> None:
    for kind, end in (("memory", {"value": "width"}), ("roofline", {"field": "label_at"})):
        (text,) = (each for each in figures.KINDS[kind]["layer"] if each["mark"]["type"] == "text")
        assert end.items() <= text["encoding"]["x"].items()
        assert text["mark"]["align"] == "left"
        assert text["mark"]["dx"] > 0


def test_every_mark_of_a_chart_is_a_stated_pair() -> None:
    stated = {one for one, other, _ in PAIRS if other == "ground"}
    marks = set(re.findall(r"var\(--([a-z-]+)\)", str(figures.KINDS)))
    assert marks - stated == {"line"}, "a faint line repeats what the points say"
