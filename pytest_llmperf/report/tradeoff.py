"""What do the variants of one model cost in speed, in memory and in quality, and which dominate?

Made from the results alone: every measurement of a run whose quality was told, in groups that can
be compared: by distance from the same reference, else the same source; and the same tokens and
workload. A reference that was measured, too, is one of its group, at no distance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.measure import Measurement, Quantity
from pytest_llmperf.report import words
from pytest_llmperf.report.grid import grid
from pytest_llmperf.report.knee import noise_of
from pytest_llmperf.report.pareto import Merit, front
from pytest_llmperf.report.result import JudgedTest

SPEED = "decode_tps"
_LEAST_VARIANTS = 2
_OF_QUALITY = ("kl_divergence", "perplexity")
"""The finer one first: it takes a reference."""
_EQUAL_MEMORY = 0.01
_EQUAL_QUALITY = {"kl_divergence": 1e-5, "perplexity": 0.001}
"""Nats; a share. Both read the same tokens, so that what differs is no chance: rounding alone."""
_LONGEST_NAME = 30


@dataclass(frozen=True)
class TradeOff:
    """The variants of one model by one measure of quality."""

    head: str
    quality: str
    memory: str
    variants: Mapping[str, Measurement]
    """By what each is called."""
    on_front: Sequence[bool]


def find_tradeoffs(tests: Sequence[JudgedTest]) -> list[TradeOff]:
    """One for each model, text and workload with two variants or more."""
    found = []
    for members in _groups(list(_told(tests))):
        memory = next((each for each in ("vram", "ram") if _all_take(members, each)), None)
        quality = next((each for each in _OF_QUALITY if _all_have(members, each)), None)
        if len({each.title for each in members}) < _LEAST_VARIANTS or not (memory and quality):
            continue
        merits = [_merits(each, memory, quality) for each in members]
        sources = dict.fromkeys(each.spec.source for each in members)
        head = f"{', '.join(sources)}: {words.workload(members[0])}"
        found.append(TradeOff(head, quality, memory, _named(members), front(merits)))
    return found


def _told(tests: Sequence[JudgedTest]) -> Iterator[Measurement]:
    """What was measured and has read a text."""
    for test in tests:
        for judged in test.measurements:
            seen = judged.measurement
            is_valid = judged.verdict is not Verdict.INVALID
            if is_valid and seen.quality and SPEED in seen.metrics and seen.decode_tps.median > 0:
                yield seen


def _groups(told: Sequence[Measurement]) -> Iterator[list[Measurement]]:
    """What can be compared, each group in the order in which it was measured."""
    groups: dict[tuple[object, ...], list[Measurement]] = defaultdict(list)
    keys = [_key(each, _model(each)) for each in told]
    for seen, key in zip(told, keys, strict=True):
        groups[key].append(seen)
        of_others = _key(seen, seen.title)
        if of_others in keys and of_others != key:
            groups[of_others].append(_at_no_distance(seen))
    yield from groups.values()


def _model(seen: Measurement) -> object:
    """What its quality is told by: a reference, or the text alone."""
    assert seen.quality is not None
    return seen.quality.reference or (seen.spec.source, seen.spec.seed)


def _key(seen: Measurement, model: object) -> tuple[object, ...]:
    assert seen.quality is not None
    return model, seen.quality.passage, seen.workload


def _at_no_distance(seen: Measurement) -> Measurement:
    """The reference itself, as if it had been compared with itself."""
    nothing = Quantity(
        unit="nats",
        median=0.0,
        low=0.0,
        high=0.0,
        n=seen.perplexity.n,
        percentiles={},
        how="it is the reference",
    )
    same = msgspec.structs.replace(nothing, unit="", median=1.0, low=1.0, high=1.0)
    metrics = {**seen.metrics, "kl_divergence": nothing, "top1_agreement": same}
    return msgspec.structs.replace(seen, metrics=metrics)


def _named(members: Sequence[Measurement]) -> dict[str, Measurement]:
    """By what tells them apart; the same variant measured again has a number, too."""
    shorts = _short_names(members)
    titles: dict[str, set[str]] = defaultdict(set)
    for short, each in zip(shorts, members, strict=True):
        titles[short].add(each.title)
    named: dict[str, Measurement] = {}
    used: Counter[str] = Counter()
    for short, each in zip(shorts, members, strict=True):
        name = short if len(titles[short]) == 1 else each.title
        used[name] += 1
        named[name if used[name] == 1 else f"{name} ({used[name]})"] = each
    return named


def _short_names(members: Sequence[Measurement]) -> list[str]:
    """Engine and model where there are several, the quantization, and the options."""
    several_engines = len({each.backend for each in members}) > 1
    several_sources = len({each.spec.source for each in members}) > 1
    names = []
    for each in members:
        stored = each.files.quantization if each.files is not None else each.spec.quantization
        options = [f"{name}={value}" for name, value in each.requested.items()]
        engine = each.backend if several_engines else ""
        what = words.model(each) if several_sources else stored or ""
        names.append(" ".join(filter(None, (engine, what, *options))) or each.backend)
    return names


def _all_have(members: Sequence[Measurement], metric: str) -> bool:
    return all(metric in each.metrics for each in members)


def _all_take(members: Sequence[Measurement], memory: str) -> bool:
    """Whether each takes some of it: without a GPU there is no VRAM to compare."""
    return _all_have(members, memory) and all(each.metrics[memory].median > 0 for each in members)


def _merits(seen: Measurement, memory: str, quality: str) -> list[Merit]:
    speed, size, said = (seen.metrics[name] for name in (SPEED, memory, quality))
    off = _EQUAL_QUALITY[quality] * (said.median if quality == "perplexity" else 1.0)
    return [
        Merit(speed.median, noise_of(speed) * speed.median),
        Merit(-size.median, max(size.slack, _EQUAL_MEMORY * size.median)),
        Merit(-said.median, off),
    ]


def tradeoff_lines(tests: Sequence[JudgedTest]) -> list[str]:
    """A table for each model; nothing where there is none."""
    return [line for each in find_tradeoffs(tests) for line in _lines(each)]


def _lines(told: TradeOff) -> list[str]:
    shown = (SPEED, told.memory, told.quality)
    numbers: tuple[Callable[[Quantity], str], ...] = (_number, _number, _with_error)
    rows = [
        ["", *(BY_NAME[name].label for name in shown), ""],
        ["", *(BY_NAME[name].unit for name in shown), ""],
    ]
    legend: list[str] = []
    for (name, seen), is_best in zip(told.variants.items(), told.on_front, strict=True):
        short = name
        if len(name) > _LONGEST_NAME:
            short = f"variant {len(legend) + 1}"
            legend += words.folded(f"  {short}: {name}", 4)
        cells = [
            number(seen.metrics[metric]) for number, metric in zip(numbers, shown, strict=True)
        ]
        rows.append([short, *cells, "front" if is_best else ""])
    head = f"trade-off of {told.head}; front: no other is worse in nothing and better in something"
    return [*words.folded(head, 2), *grid(rows), *legend]


def _number(quantity: Quantity) -> str:
    return words.number(quantity.median)


def _with_error(quantity: Quantity) -> str:
    error = "" if quantity.error is None else f" ± {words.number(quantity.error)}"
    return f"{words.number(quantity.median)}{error}"
