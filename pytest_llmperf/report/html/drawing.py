"""How does a kind of chart become one figure? By its data, and what all charts have in common.

A kind stands in the page once, and each figure brings only its data, by name: that keeps 200 tests
within a few megabytes.
"""

from __future__ import annotations

import copy

from pytest_llmperf.report.html.figures import KINDS, Spec, colour

Rows = list[dict[str, object]]

_ROW = "name"
CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": colour("muted"),
        "labelFontSize": 12,
        "gridColor": colour("line"),
        "gridOpacity": 0.6,
        "domainColor": colour("edge"),
        "tickColor": colour("edge"),
        "tickCount": 5,
    },
    "axisX": {"labelOverlap": "greedy", "labelSeparation": 6},
    "axisBand": {"grid": False},
    "legend": {
        "labelColor": colour("ink"),
        "labelFontSize": 12,
        "orient": "top",
        "offset": 4,
        "columns": {"expr": "containerSize()[0] < 480 ? 1 : 4"},
        "labelLimit": {"expr": "min(300, width - 20)"},
    },
    "text": {"fontSize": 12},
}
"""What all of them look like."""


def height_of(kind: str, data: dict[str, Rows]) -> int:
    """Of the drawing without its axes, in pixels: so much for each row where it has rows."""
    height = KINDS[kind]["height"]
    if isinstance(height, int):
        return height
    rows = {row.get(_ROW) for each in data.values() for row in each} - {None}
    return int(height["step"]) * max(1, len(rows))


def packed(data: dict[str, Rows]) -> dict[str, dict[str, list[object]]]:
    """By column instead of by row, which spares the names: the page's script turns it back.

    All rows of one table have the same fields.
    """
    return {
        name: {field: [row[field] for row in rows] for field in rows[0]} if rows else {}
        for name, rows in data.items()
    }


def whole(kind: str, data: dict[str, Rows]) -> Spec:
    """The complete specification of one figure, as the page puts it together."""
    spec = copy.deepcopy(KINDS[kind])
    return {
        **spec,
        "layer": [each for each in spec["layer"] if data[each["data"]["name"]]],
        "height": height_of(kind, data),
        "datasets": data,
        "config": CONFIG,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }
