"""How is one measurement drawn: its samples, latencies, memory, and place under the roofline?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.measure import ByteFigure, Measurement, Quantity
from pytest_llmperf.report import words
from pytest_llmperf.report.html.drawing import Rows
from pytest_llmperf.report.html.model import Figure
from pytest_llmperf.report.html.saying import quantity_of, table, title_of, value_of

_DRAWN = ("decode_tps", "prefill_tps", "queue_tps")
_LATENCIES = ("ttft", "itl", "icl", "tpot", "e2e")
_PHASES = (
    ("peak", "peak"),
    ("load", "load"),
    ("prefill", "prefill"),
    ("decode", "decode"),
    ("anon", "private"),
    ("file", "files"),
)
_GIB, _MIB = 2**30, 2**20


def samples(looks: Sequence[Measurement]) -> Iterator[Figure]:
    """Where the samples of each speed lie, process by process. ``looks``: the first one first."""
    for metric in _DRAWN:
        seen = [(number, look.metrics[metric]) for number, look in enumerate(looks, 1)
                if look.metrics.get(metric) and look.metrics[metric].values]  # fmt: skip
        if seen:
            yield _samples(metric, seen)


def _samples(metric: str, seen: Sequence[tuple[int, Quantity]]) -> Figure:
    values: Rows = []
    boxes: Rows = []
    for number, quantity in seen:
        process = f"process {number}"
        values += [
            {"name": process, "sample": at, "value": value, "text": value_of(metric, value)}
            for at, value in enumerate(quantity.values or [], 1)
        ]
        boxes.append(
            {
                "name": process,
                "low": quantity.low,
                "high": quantity.high,
                "median": quantity.median,
                "text": f"{value_of(metric, quantity.median)}, {words.spread(quantity)}",
            }
        )
    told = "; ".join(f"{each['name']}: {each['text']}" for each in boxes)
    data = {"values": values, "boxes": boxes}
    return Figure(f"{title_of(metric)}: samples", f"{told} (quartiles shaded).", "samples", data)


def latency(seen: Measurement) -> Figure | None:
    """Percentiles of every latency, on one scale by powers of ten."""
    told = {name: seen.metrics[name] for name in _LATENCIES if name in seen.metrics}
    told = {name: each for name, each in told.items() if min(each.percentiles.values()) > 0}
    if not told:
        return None
    points: Rows = []
    spans: Rows = []
    for name, quantity in told.items():
        label = BY_NAME[name].label
        found = quantity.percentiles.items()
        points += [
            {"name": label, "arm": arm, "value": value, "text": value_of(name, value)}
            for arm, value in found
        ]
        spans.append({"name": label, "low": min(v for _, v in found),
                      "high": max(v for _, v in found)})  # fmt: skip
    names = tuple(next(iter(told.values())).percentiles)
    rows: list[tuple[str, ...]] = [
        (
            BY_NAME[name].label,
            *(words.number(each.percentiles[p]) for p in names),
            str(each.n),
        )
        for name, each in told.items()
    ]
    return Figure(
        "latency percentiles, ms",
        "By powers of ten; the numbers are in the table.",
        "latency",
        {"points": points, "spans": spans},
        table(("ms", *names, "values"), list(rows), numbers=len(names) + 1),
    )


def memory(seen: Measurement) -> Figure | None:
    """Peaks by phase, and what lay where at the end; of each GPU, too."""
    found = list(_figures(seen))
    if not found:
        return None
    in_gib = max(each.bytes for _, each in found) >= _GIB
    unit, size = ("GiB", _GIB) if in_gib else ("MiB", _MIB)
    bars: Rows = []
    for name, each in found:
        least = _least(each)
        bars.append(
            {
                "name": name,
                "sure": least / size,
                "most": each.bytes / size,
                "text": f"{words.size(each.bytes)} {each.kind}",
            }
        )
    told = "; ".join(f"{name} {bar['text']}" for (name, _), bar in zip(found, bars, strict=True))
    kinds = {each.kind for _, each in found}
    is_dashed = any(bar["sure"] != bar["most"] for bar in bars)
    more = " Dashed: what a bound leaves open." if is_dashed else ""
    more += " Sampled: it may have been more." if "sampled" in kinds else ""
    return Figure(f"memory by phase, {unit}", f"{told}.{more}", "memory", {"bars": bars})


def _least(figure: ByteFigure) -> int:
    """What is sure. The truth is not above a bound; there may be more than what was sampled."""
    if figure.kind == "exact":
        return figure.bytes
    unknown = figure.bytes if figure.kind == "sampled" else 0
    return unknown if figure.low_bytes is None else figure.low_bytes


def _figures(seen: Measurement) -> Iterator[tuple[str, ByteFigure]]:
    if seen.memory is not None:
        for field, name in _PHASES:
            figure = getattr(seen.memory, field)
            if figure is not None:
                yield name, figure
    for device in seen.devices:
        where = device.device or device.name or "GPU"
        for name, figure in (("VRAM", device.vram), ("allocated", device.allocated)):
            if figure is not None:
                yield f"{name} {where}", figure


def roofline(seen: Measurement) -> Figure | None:
    """What share of the machine's bandwidth and arithmetic was used, under the probe's ceiling."""
    place = seen.roofline
    if place is None or (place.mbu is None and place.mfu is None):
        return None
    probe = place.calibration
    shares: Rows = []
    if place.mbu is not None and place.bytes_per_s is not None and probe is not None:
        shares.append(_share("bandwidth", place.mbu, place.bytes_per_s, "GB/s"))
    if place.mfu is not None and place.flops_per_s is not None:
        shares.append(_share("compute", place.mfu, place.flops_per_s, "GFLOP/s"))
    if not shares:
        return None
    missing = [f"{name}: {why}" for name, why in place.absent.items()]
    told = "; ".join([*(f"{each['name']} {each['text']}" for each in shares), *missing])
    return Figure(
        "under the roofline",
        f"{told}. 100 % is the best that a probe of this run found.",
        "roofline",
        {"shares": shares, "roof": [{"at": 1}]},
    )


def _share(name: str, share: float, rate: float, unit: str) -> dict[str, object]:
    ceiling = rate / share / 1e9 if share else 0.0
    text = f"{words.percent(share)}: {words.number(rate / 1e9)} of {words.number(ceiling)} {unit}"
    return {"name": name, "share": share, "text": text, "label_at": max(share, 1.0)}


def metric_notes(seen: Measurement) -> Iterator[tuple[str, Quantity, str]]:
    """Every metric, its quantity, and how it spread or was taken."""
    for name, quantity in seen.metrics.items():
        note = words.spread(quantity)
        if quantity.how:
            note = f"{note}; {quantity.how}" if quantity.n > 1 else quantity.how
        if quantity.kind != "exact":
            note = f"{quantity.kind}: {note}"
        yield name, quantity, note


def headline(seen: Measurement, metric: str) -> str:
    """A metric in a row of several; a dash where it was not measured."""
    return quantity_of(seen.metrics[metric]) if metric in seen.metrics else "–"
