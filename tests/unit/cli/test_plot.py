"""Does a series read right in the terminal: places, numbers, borders, and without Unicode?"""

from __future__ import annotations

import datetime

import pytest

from pytest_llmperf.cli.plot import HEIGHT, MARKS, WIDTH, Band, Dot, can_show, plot, printable

NOON = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)


def dots(*values: float, group: str = "", mark: str = "session") -> list[Dot]:
    return [
        Dot(value, NOON + datetime.timedelta(days=day), mark, group)
        for day, value in enumerate(values)
    ]


def test_higher_is_higher_and_later_is_further_right() -> None:
    lines = plot(dots(10.0, 20.0, 15.0))
    assert lines[0].startswith("20.0 ┤")
    assert lines[HEIGHT - 1].startswith("10.0 ┤")
    places = {row: line.index("●") for row, line in enumerate(lines[:HEIGHT]) if "●" in line}
    assert list(places) == [0, 4, 7]
    assert places[7] < places[0] < places[4]


def test_the_band_is_drawn_under_the_latest_group_only() -> None:
    series = [*dots(18.0, 18.5, group="epoch 0"), *dots(20.0, 20.5, group="epoch 1")]
    lines = plot(series, Band(19.5, 20.1, 20.7))
    assert lines[0].startswith("20.7 ┤")
    assert lines[0].endswith("┊┄┄┄┄┄┄")
    centre = next(line for line in lines if "─" in line)
    assert centre.startswith("20.1 ┤")
    older, _, newer = centre.partition("┊")
    assert "─" not in older
    assert "─" in newer
    assert lines[HEIGHT + 1].split() == ["0", "1"]


def test_groups_are_named_in_full_where_there_is_room() -> None:
    lines = plot([*dots(*[1.0] * 5, group="epoch 0"), *dots(2.0, group="epoch 1")])
    assert lines[HEIGHT + 1].split() == ["epoch", "0", "1"]


@pytest.mark.parametrize("count", [1, 2, 40, 63, 64, 65, 66, 200])
def test_nothing_is_wider_than_asked_and_what_is_left_out_is_counted(count: int) -> None:
    values = [100 + index % 7 for index in range(count)]
    lines = plot(dots(*values), Band(99, 102, 105))
    assert max(map(len, lines)) <= WIDTH
    drawn = sum(line.count("●") for line in lines[:HEIGHT])
    older = [line for line in lines if "no room" in line]
    assert older == ([f"{count - drawn} older ones have no room here"] if drawn < count else [])
    assert drawn >= min(count, 60)


def test_the_newest_are_those_that_stay() -> None:
    lines = plot(dots(*[10.0] * 80, 20.0))
    assert lines[0].startswith("20.0 ┤")
    assert lines[0].endswith("●")
    assert lines[HEIGHT + 1].startswith("2026-03-")
    assert lines[HEIGHT + 1].endswith("2026-05-23")


def test_equal_values_stand_in_the_middle() -> None:
    lines = plot(dots(5.0, 5.0))
    assert [row for row, line in enumerate(lines[:HEIGHT]) if "●" in line] == [4]
    assert (lines[0][:4], lines[HEIGHT - 1][:4]) == ("5.05", "4.95")
    assert plot(dots(0.0))[0] == " 1.00 ┤"


def test_in_a_row_with_the_centre_its_number_stands() -> None:
    lines = plot(dots(10.0, 20.0), Band(19.5, 20.1, 20.7))
    assert lines[0].startswith("20.1 ┤──")
    assert lines[HEIGHT - 1].startswith("10.0 ┤")


def test_numbers_at_the_axis_can_be_told_apart() -> None:
    lines = plot(dots(100.01, 100.02))
    assert (lines[0][:6], lines[HEIGHT - 1][:6]) == ("100.02", "100.01")


def test_a_value_of_any_size_has_a_short_number() -> None:
    lines = plot(dots(1e300, 2e300))
    assert lines[0].startswith("2e+300 ┤")


def test_only_the_marks_that_were_drawn_are_explained() -> None:
    lines = plot([*dots(1.0), *dots(2.0, mark="REGRESSED")])
    assert lines[-1] == "● session   ▼ REGRESSED"
    assert "▼" in lines[0]


def test_a_long_legend_is_broken_between_its_words() -> None:
    lines = plot([dot for mark in MARKS for dot in dots(1.0, mark=mark)])
    assert max(map(len, lines)) <= WIDTH
    assert all(any(mark in line for line in lines) for mark in MARKS)


def test_without_unicode_all_of_it_is_ascii() -> None:
    series = [dot for mark in MARKS for dot in dots(1.0, 2.0, group="epoch 0", mark=mark)]
    told = "\n".join(plot(series, Band(0.9, 1.5, 2.1), unicode=False))
    assert printable(told, "ascii").isascii()
    assert "…" not in printable(told, "ascii")
    assert "|" in told


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", True), ("ascii", False), ("cp1252", False), (None, False)]
)
def test_an_encoding_can_show_a_plot_or_not(encoding: str | None, expected: bool) -> None:
    assert can_show(encoding) is expected


def test_what_an_encoding_lacks_is_spelled_out() -> None:
    assert printable("−3 % · 20 → 21 日", "ascii") == "-3 % - 20 -> 21 \\u65e5"
    assert printable("−3 % · 日", "utf-8") == "−3 % · 日"
