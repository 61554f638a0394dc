"""Which kinds of charts does the page have? Vega-Lite specifications, without data.

Colours are the page's tokens, so that one drawing is right in the light, in the dark and on paper.
Nothing is told by colour alone: there is a shape or a word beside.
"""

from __future__ import annotations

from typing import Any

from pytest_llmperf.report.html.tokens import SERIES

Spec = dict[str, Any]


def colour(token: str) -> str:
    """One that the page's theme names."""
    return f"var(--{token})"


def _x(field: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": None, **more}


def _name(field: str, **more: Any) -> Spec:
    axis = {"labelLimit": 220, "ticks": False, "domain": False}
    return {"field": field, "type": "nominal", "title": None, "sort": None, "axis": axis, **more}


def _tip(*fields: str) -> list[Spec]:
    return [{"field": each, "type": "nominal", "title": each} for each in fields]


def _layers(*layers: Spec, height: Any) -> Spec:
    return {"width": "container", "height": height, "layer": list(layers)}


def _layer(data: str, mark: Spec, **encoding: Any) -> Spec:
    return {"data": {"name": data}, "mark": mark, "encoding": encoding}


_NOT_FROM_0 = {"zero": False, "nice": True, "padding": 8}
_STEP = {"step": 24}
_INKED = {"symbolFillColor": colour("ink"), "symbolStrokeColor": colour("ink")}
_LONG_NAMES = {"columns": {"expr": "containerSize()[0] < 700 ? 1 : 2"}}
_SHAPES = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
]
"""Seven, and four colours: together they tell 28 arms apart."""
_ARMS = {
    "color": {
        "field": "arm", "type": "nominal", "sort": None, "title": None,
        "scale": {"range": [colour(each) for each in SERIES]},
    },
    "shape": {
        "field": "arm", "type": "nominal", "sort": None, "title": None,
        "scale": {"range": _SHAPES},
    },
}  # fmt: skip

_SAMPLES = _layers(
    _layer(
        "boxes",
        {
            "type": "bar", "height": 14, "color": colour("accent"), "fillOpacity": 0.18,
            "stroke": colour("accent"),
        },
        y=_name("name"),
        x=_x("low", scale=_NOT_FROM_0),
        x2={"field": "high"},
    ),
    _layer(
        "values",
        {"type": "tick", "thickness": 1.5, "height": 14, "color": colour("accent")},
        y=_name("name"),
        x=_x("value", scale=_NOT_FROM_0),
        tooltip=_tip("name", "sample", "text"),
    ),
    _layer(
        "boxes",
        {"type": "tick", "thickness": 3, "height": 20, "color": colour("ink")},
        y=_name("name"),
        x=_x("median", scale=_NOT_FROM_0),
        tooltip=_tip("text"),
    ),
    height=_STEP,
)  # fmt: skip

_DAYS = {
    "field": "at", "type": "ordinal", "sort": None, "title": None,
    "axis": {
        "labelExpr": "datum.label == 'this run' ? 'now' : slice(datum.label, 5, 10)",
        "labelAngle": 0, "labelOverlap": "greedy",
        "labelSeparation": 12, "ticks": False,
    },
}  # fmt: skip
_SESSIONS = _layers(
    _layer(
        "past",
        {"type": "line", "color": colour("edge"), "strokeWidth": 1},
        x=_DAYS,
        y=_x("value", scale=_NOT_FROM_0),
    ),
    _layer("starts", {"type": "rule", "color": colour("edge"), "strokeDash": [2, 2]}, x=_DAYS),
    _layer(
        "band",
        {"type": "area", "color": colour("accent"), "fillOpacity": 0.13},
        x=_DAYS,
        y=_x("low", scale=_NOT_FROM_0),
        y2={"field": "high"},
    ),
    *(
        _layer(
            "band",
            {"type": "line", "color": colour("accent"), "strokeWidth": 1, "strokeDash": dash},
            x=_DAYS,
            y=_x(field, scale=_NOT_FROM_0),
        )
        for field, dash in (("low", [1, 0]), ("normal", [5, 3]), ("high", [1, 0]))
    ),
    _layer(
        "past",
        {"type": "point", "filled": True, "size": 26, "color": colour("muted"), "opacity": 1},
        x=_DAYS,
        y=_x("value", scale=_NOT_FROM_0),
        tooltip=_tip("at", "text", "commit"),
    ),
    _layer(
        "now",
        {
            "type": "point", "shape": "diamond", "filled": True, "size": 130,
            "color": colour("ink"), "opacity": 1,
        },
        x=_DAYS,
        y=_x("value", scale=_NOT_FROM_0),
        tooltip=_tip("at", "text"),
    ),
    height=150,
)  # fmt: skip

_LOG = {"type": "log", "nice": False, "padding": 12}
_LATENCY = _layers(
    _layer(
        "spans",
        {"type": "rule", "strokeWidth": 2, "color": colour("line")},
        y=_name("name"),
        x=_x("low", scale=_LOG, axis={"tickCount": 5, "format": "~g"}),
        x2={"field": "high"},
    ),
    _layer(
        "points",
        {"type": "point", "filled": True, "size": 55, "opacity": 1},
        y=_name("name"),
        x=_x("value", scale=_LOG),
        **_ARMS,
        tooltip=_tip("name", "arm", "text"),
    ),
    height=_STEP,
)

_MEMORY = _layers(
    _layer(
        "bars",
        {"type": "bar", "height": 12, "color": colour("accent"), "opacity": 0.85},
        y=_name("name"),
        x=_x("sure"),
    ),
    _layer(
        "bars",
        {
            "type": "bar", "height": 12, "color": colour("accent"), "fillOpacity": 0.3,
            "stroke": colour("accent"), "strokeDash": [3, 2],
        },
        y=_name("name"),
        x=_x("sure"),
        x2={"field": "most"},
        tooltip=_tip("name", "text"),
    ),
    _layer(
        "bars",
        {"type": "text", "align": "left", "dx": 5, "color": colour("muted")},
        y=_name("name"),
        x={"value": "width"},  # beside a bar they are cut: it moves when room is made for them
        text={"field": "text"},
    ),
    height=_STEP,
)  # fmt: skip

_SHARE = {"domain": [0, 2.4], "nice": False}
"""With room for the words right of the roof."""
_ROOFLINE = _layers(
    _layer(
        "shares",
        {"type": "bar", "height": 12, "color": colour("accent"), "opacity": 0.85},
        y=_name("name"),
        x=_x("share", scale=_SHARE, axis={"format": "%", "values": [0, 0.5, 1]}),
        tooltip=_tip("name", "text"),
    ),
    _layer(
        "roof",
        {"type": "rule", "color": colour("ink"), "strokeWidth": 2},
        x=_x("at", scale=_SHARE),
    ),
    _layer(
        "shares",
        {"type": "text", "align": "left", "dx": 5, "color": colour("ink")},
        y=_name("name"),
        x=_x("label_at", scale=_SHARE),
        text={"field": "text"},
    ),
    height=_STEP,
)

_CHANGES = _layers(
    _layer("zero", {"type": "rule", "color": colour("edge")}, x=_x("at")),
    _layer(
        "changes",
        {"type": "rule", "strokeWidth": 3, "color": colour("accent")},
        y=_name("name"),
        x=_x("low", axis={"format": "+.0%"}),
        x2={"field": "high"},
    ),
    _layer(
        "changes",
        {"type": "point", "filled": True, "size": 70, "color": colour("ink"), "opacity": 1},
        y=_name("name"),
        x=_x("change"),
        shape={
            "field": "verdict", "type": "nominal", "title": None, "sort": None,
            "scale": {
                "domain": ["REGRESSED", "INCONCLUSIVE", "IMPROVED"],
                "range": ["triangle-down", "circle", "triangle-up"],
            },
            "legend": _INKED,
        },
        tooltip=_tip("name", "verdict", "text"),
    ),
    height={"step": 20},
)  # fmt: skip

_SIDE_BY_SIDE = _layers(
    _layer(
        "points",
        {"type": "point", "filled": True, "size": 80, "opacity": 1},
        y=_name("name"),
        x=_x("value", scale={"zero": True}),
        **{name: {**each, "legend": _LONG_NAMES} for name, each in _ARMS.items()},
        tooltip=_tip("name", "arm", "text"),
    ),
    height=_STEP,
)


def _labelled(place: str, dy: int) -> Spec:
    """Names beside the points: above those of the front, below the others."""
    layer = _layer(
        "variants",
        {"type": "text", "align": "left", "dx": 9, "dy": dy, "color": colour("ink"), "limit": 160},
        x=_x("cost", scale=_NOT_FROM_0),
        y=_x("speed"),
        text={"field": "name"},
    )
    return {**layer, "transform": [{"filter": f"datum.front == '{place}'"}]}


_TRADEOFF = _layers(
    _layer(
        "variants",
        {"type": "point", "size": 110, "strokeWidth": 2, "color": colour("accent"), "opacity": 1},
        x=_x("cost", scale=_NOT_FROM_0),
        y=_x("speed", scale={"zero": True}),
        shape={
            "field": "front", "type": "nominal", "title": None, "sort": None,
            "scale": {"domain": ["front", "dominated"], "range": ["diamond", "cross"]},
            "legend": {**_INKED, "orient": "bottom"},
        },
        tooltip=_tip("name", "front", "text"),
    ),
    _labelled("front", dy=-10),
    _labelled("dominated", dy=11),
    height=230,
)  # fmt: skip

_SWEEP = _layers(
    _layer(
        "points",
        {"type": "rule", "strokeWidth": 3, "color": colour("accent")},
        x=_x("at", scale={"zero": False, "padding": 12}, axis={"tickMinStep": 1}),
        y=_x("low", scale={"zero": True}),
        y2={"field": "high"},
    ),
    _layer(
        "points",
        {
            "type": "line", "color": colour("accent"), "strokeWidth": 1.5,
            "point": {"filled": True, "size": 60, "color": colour("accent")},
        },
        x=_x("at", scale={"zero": False, "padding": 12}),
        y=_x("value", scale={"zero": True}),
        tooltip=_tip("text"),
    ),
    height=170,
)  # fmt: skip

_RATIO = _layers(
    _layer("one", {"type": "rule", "color": colour("edge")}, x=_x("at")),
    _layer(
        "ratios",
        {"type": "rule", "strokeWidth": 3, "color": colour("accent")},
        y=_name("name"),
        x=_x("low", scale=_NOT_FROM_0),
        x2={"field": "high"},
    ),
    _layer(
        "ratios",
        {
            "type": "point", "shape": "diamond", "filled": True, "size": 90,
            "color": colour("ink"), "opacity": 1,
        },
        y=_name("name"),
        x=_x("ratio", scale=_NOT_FROM_0),
        tooltip=_tip("name", "text"),
    ),
    height=_STEP,
)  # fmt: skip

KINDS: dict[str, Spec] = {
    "samples": _SAMPLES,
    "sessions": _SESSIONS,
    "latency": _LATENCY,
    "memory": _MEMORY,
    "roofline": _ROOFLINE,
    "changes": _CHANGES,
    "side_by_side": _SIDE_BY_SIDE,
    "tradeoff": _TRADEOFF,
    "sweep": _SWEEP,
    "ratio": _RATIO,
}
