"""What do several measurements say side by side: machines, engines, variants, a sweep?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report import words
from pytest_llmperf.report.html.drawing import Rows
from pytest_llmperf.report.html.model import Cell, Chapter, Figure, Group, Table
from pytest_llmperf.report.html.one_measurement import headline
from pytest_llmperf.report.html.overview import labels
from pytest_llmperf.report.html.saying import name_of, table, title_of, value_of
from pytest_llmperf.report.merged import Machine
from pytest_llmperf.report.result import JudgedTest
from pytest_llmperf.report.sweep import SHOWN, WITH_KNEE, Series, find_series, knee_of
from pytest_llmperf.report.tradeoff import SPEED, TradeOff, find_tradeoffs

_TOLD = ("decode_tps", "prefill_tps", "queue_tps", "ttft", "ram", "vram")
_LEAST_ARMS = 2
_DRAWN = 30

_Arms = Mapping[str, Measurement]
"""What is compared, by what each is called."""
_Rows = Mapping[str, _Arms]


def chapters(machines: Sequence[Machine]) -> list[Chapter]:
    """Those that have anything to say."""
    names = labels(machines)
    places = [f" on {label}" if len(machines) > 1 else "" for label in names]
    told = list(zip(machines, places, strict=True))
    found = (
        Chapter(
            "machines",
            "Machines",
            "The same test on several machines.",
            tuple(_grouped("by machine", _by_machine(machines), _named(names))),
        ),
        Chapter(
            "engines",
            "Engines",
            "The same model and workload in several engines, each in the types of its weights "
            "and with the options that were asked for; of equal ones the first.",
            tuple(
                group
                for machine, label in zip(machines, names, strict=True)
                for group in _grouped(f"on {label}", _by_engine(machine.tests))
            ),
        ),
        Chapter(
            "tradeoffs",
            "Trade-offs",
            "Speed, memory and quality of the variants of a model. Front: no other is worse in "
            "nothing and better in something.",
            tuple(
                _tradeoff(each, where)
                for machine, where in told
                for each in find_tradeoffs(machine.tests)
            ),
        ),
        Chapter(
            "sweeps",
            "Sweeps",
            "One number varied, the rest being equal; the knee is where no doubling brings 10 % "
            "more.",
            tuple(
                _sweep(each, where)
                for machine, where in told
                for each in find_series(machine.tests)
            ),
        ),
    )
    return [each for each in found if each.groups]


def _valid(test: JudgedTest) -> Iterator[tuple[str, Measurement]]:
    """By the test's name, and the measurement's where there are several."""
    for judged in test.measurements:
        if judged.verdict is not Verdict.INVALID:
            seen = judged.measurement
            yield f" · {seen.name}" if len(test.measurements) > 1 else "", seen


def _named(labels: Sequence[str]) -> tuple[str, ...]:
    """What the short names stand for, which have room in a chart."""
    return tuple(f"machine {number}: {label}" for number, label in enumerate(labels, 1))


def _by_machine(machines: Sequence[Machine]) -> _Rows:
    found: defaultdict[str, dict[str, Measurement]] = defaultdict(dict)
    for number, machine in enumerate(machines, 1):
        for test in machine.tests:
            for name, seen in _valid(test):
                found[f"{test.test}{name}"][f"machine {number}"] = seen
    several = {row: arms for row, arms in found.items() if len(arms) >= _LEAST_ARMS}
    shorts = {row: name_of_id(row) for row in several}
    is_unique = len(set(shorts.values())) == len(shorts)
    return {shorts[row] if is_unique else row: arms for row, arms in several.items()}


def name_of_id(nodeid: str) -> str:
    """Without the module's path."""
    return name_of(JudgedTest(test=nodeid, outcome="", verdict=None, measurements=[]))[1]


def _by_engine(tests: Sequence[JudgedTest]) -> _Rows:
    """A model and a workload in a row, which two engines ran at least; of equal arms the first."""
    found: defaultdict[str, dict[str, Measurement]] = defaultdict(dict)
    for test in tests:
        for _, seen in _valid(test):
            stored = seen.spec.quantization if seen.files is None else seen.files.quantization
            options = (f"{name}={value}" for name, value in seen.requested.items())
            arm = " ".join(filter(None, (seen.backend, stored, *options)))
            found[f"{seen.spec.source}: {words.workload(seen)}"].setdefault(arm, seen)
    return {
        row: arms
        for row, arms in found.items()
        if len({seen.backend for seen in arms.values()}) >= _LEAST_ARMS
    }


def _grouped(title: str, rows: _Rows, told: tuple[str, ...] = ()) -> Iterator[Group]:
    if not rows:
        return
    rows = {f"{number} {row}": arms for number, (row, arms) in enumerate(rows.items(), 1)}
    everything = [seen for arms in rows.values() for seen in arms.values()]
    shown = [name for name in _TOLD if any(name in seen.metrics for seen in everything)]
    cells: list[tuple[str | Cell, ...]] = [
        (row, arm, *(headline(seen, name) for name in shown))
        for row, arms in rows.items()
        for arm, seen in arms.items()
    ]
    figures = [_side_by_side(name, rows) for name in shown if name != "queue_tps"][:3]
    heads = ("what", "where", *(BY_NAME[name].label for name in shown))
    yield Group(title, told, tuple(figures), table(heads, cells, numbers=len(shown)))


def _side_by_side(metric: str, rows: _Rows) -> Figure:
    points: Rows = [
        {
            "name": row[:60],
            "arm": arm,
            "value": seen.metrics[metric].median,
            "text": value_of(metric, seen.metrics[metric].median),
        }
        for row, arms in list(rows.items())[:_DRAWN]
        for arm, seen in arms.items()
        if metric in seen.metrics
    ]
    better = "more" if BY_NAME[metric].better == "higher" else "less"
    part = f" The first {_DRAWN} of {len(rows)}." if len(rows) > _DRAWN else ""
    told = f"Medians; {better} is better.{part} Numbers: the table."
    return Figure(title_of(metric), told, "side_by_side", {"points": points})


def _tradeoff(told: TradeOff, where: str) -> Group:
    names = (SPEED, told.memory, told.quality)
    rows: list[tuple[str | Cell, ...]] = [
        (
            name,
            "◆ front" if is_best else "+ dominated",
            *(headline(seen, metric) for metric in names),
        )
        for (name, seen), is_best in zip(told.variants.items(), told.on_front, strict=True)
    ]
    heads = ("variant", "", *(BY_NAME[metric].label for metric in names))
    figures = tuple(_against(told, cost) for cost in (told.memory, told.quality))
    return Group(f"{told.head}{where}", (), figures, table(heads, rows, numbers=len(names)))


def _against(told: TradeOff, cost: str) -> Figure:
    variants: Rows = [
        {
            "name": name,
            "front": "front" if is_best else "dominated",
            "speed": seen.metrics[SPEED].median,
            "cost": seen.metrics[cost].median,
            "text": f"{headline(seen, SPEED)}, {headline(seen, cost)}",
        }
        for (name, seen), is_best in zip(told.variants.items(), told.on_front, strict=True)
    ]
    title = f"{title_of(SPEED)} (up) by {title_of(cost)} (right)"
    text = "The best lie up and to the left. Numbers: the table."
    return Figure(title, text, "tradeoff", {"variants": variants})


def _sweep(series: Series, where: str) -> Group:
    shown = [name for name in SHOWN if any(name in each.metrics for each in series.seen.values())]
    rows: list[tuple[str | Cell, ...]] = [
        (words.limit(at), *(headline(seen, name) for name in shown))
        for at, seen in series.seen.items()
    ]
    others = [f"{name} {value}" for name, value in series.others]
    head = ", ".join(
        [series.test.rpartition("::")[2], *filter(None, [series.measurement]), *others]
    )
    speeds = [name for name in WITH_KNEE if name in shown]
    told = tuple(f"{BY_NAME[name].label}: {knee_of(series, name)}" for name in speeds)
    heads = (series.parameter, *(BY_NAME[name].label for name in shown))
    drawn = tuple(_swept(series, name) for name in speeds)
    return Group(f"{head}: by {series.parameter}{where}", told, drawn, _numbers(heads, rows))


def _numbers(heads: tuple[str, ...], rows: list[tuple[str | Cell, ...]]) -> Table:
    return table(heads, rows, numbers=len(heads))


def _swept(series: Series, metric: str) -> Figure:
    found = {at: seen.metrics[metric] for at, seen in series.seen.items() if metric in seen.metrics}
    points: Rows = [
        {
            "at": at,
            "value": each.median,
            "low": each.low,
            "high": each.high,
            "text": f"{series.parameter} {words.limit(at)}: {value_of(metric, each.median)}",
        }
        for at, each in found.items()
    ]
    told = f"{knee_of(series, metric)}. Bars: quartiles; numbers: the table."
    title = f"{title_of(metric)}, by {series.parameter}"
    return Figure(title, told, "sweep", {"points": points})
