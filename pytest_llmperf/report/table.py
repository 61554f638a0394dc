"""How do all measurements of a run look side by side, within the width of a terminal?"""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report import words
from pytest_llmperf.report.result import CheckResult, JudgedMeasurement, JudgedTest

_SHOWN = (("decode_tps", "decode\ntok/s"), ("prefill_tps", "prefill\ntok/s"),
          ("ttft", "first\ntoken ms"), ("load", "load\ns"), ("ram", "RAM\nGiB"))  # fmt: skip
_OF_QUEUES = ("queue_tps", "step_tokens")
_LEAST_WIDTH = 80
_COLUMN = 8
"""Longest limit, sign included, that goes beneath its number."""
_STYLE = {
    Verdict.PASSED: "green",
    Verdict.IMPROVED: "green",
    Verdict.NO_BASELINE: "yellow",
    Verdict.INCONCLUSIVE: "yellow",
}


def table_text(tests: list[JudgedTest], width: int, *, color: bool) -> str:
    """One row for each measurement: five numbers, each with its budget beneath, and the verdict.

    ``width`` is in characters; nothing is wider, but below 80 the terminal has to wrap: a number
    that is cut off would be worse.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    table.add_column("test / engine / model", overflow="fold", ratio=1, min_width=18)
    for _, title in _SHOWN:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=len(Verdict.NO_BASELINE))
    for test in tests:
        for judged in test.measurements:
            table.add_row(*_cells(test, judged))
    sink = io.StringIO()
    console = Console(
        file=sink,
        width=max(width, _LEAST_WIDTH),
        force_terminal=color,
        no_color=not color,
        highlight=False,
        emoji=False,
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()).strip("\n")


def _cells(test: JudgedTest, judged: JudgedMeasurement) -> list[str]:
    measurement = judged.measurement
    path, bracket, case = test.test.partition("[")
    name = path.rpartition("::")[2] + bracket + case
    if len(test.measurements) > 1:
        name += f" · {measurement.name}"
    who = f"{measurement.backend} {words.model(measurement)}"
    cells = [
        _plain(name) + f"\n[dim]{_plain(who)}[/dim]" + _other_budgets(judged) + _beside(judged)
    ]
    cells += [_number_cell(judged, metric) for metric, _ in _SHOWN]
    style = _STYLE.get(judged.verdict, "bold red")
    cells.append(f"[{style}]{judged.verdict}[/{style}]")
    return cells


def _number_cell(judged: JudgedMeasurement, metric: str) -> str:
    quantity = judged.measurement.metrics.get(metric)
    if quantity is None:
        return "–"
    pairs = [pair for pair in judged.pairs if pair.key.metric == metric]
    # After a second look the mean of all processes was judged, and its change stands beneath.
    values = [pair.value for pair in pairs if len(pair.looks) > 1]
    text = words.number(values[0] if values else quantity.median)
    for check in judged.checks:
        if check.metric == metric and not _needs_a_line(check):
            text += f"\n{_styled(check, _limit(check))}"
    return text + "".join(map(_change, pairs))


def _other_budgets(judged: JudgedMeasurement) -> str:
    lines = []
    for check in judged.checks:
        if not _needs_a_line(check):
            continue
        label = BY_NAME[check.metric].label + (f" p{check.percentile}" if check.percentile else "")
        if check.confirmed is not None:
            label = f"with a second process: {label}"
        value = "–" if check.decided is None else words.apart(check.decided, check.limit)
        unit = BY_NAME[check.metric].unit
        lines.append(_styled(check, f"{label} {value} {_limit(check)} {unit}".rstrip()))
    return "".join(f"\n{line}" for line in lines)


def _beside(judged: JudgedMeasurement) -> str:
    """What a text told, and a queue, where no budget says it already."""
    limited = {check.metric for check in judged.checks}
    told = [
        f"\n[dim]{BY_NAME[name].label} {words.number(quantity.median)} {quantity.unit}[/dim]"
        for name, quantity in judged.measurement.metrics.items()
        if (BY_NAME[name].of_output or name in _OF_QUEUES) and name not in limited
    ]
    return "".join(told)


def _change(pair: PairResult) -> str:
    """Beneath the number: its change against the baseline, and the loss that would be seen."""
    if not pair.is_gated or pair.change is None or pair.judgement.effect is None:
        return ""
    style = "dim" if pair.verdict is Verdict.PASSED else _STYLE.get(pair.verdict, "bold red")
    text = f"\n[{style}]{words.change(pair.change)}[/{style}]"
    if pair.least_found is not None:
        text += f"\n[dim]mde {words.percent(abs(pair.least_found)).replace(' ', '')}[/dim]"
    return text


def _needs_a_line(check: CheckResult) -> bool:
    """Whether a limit has no column of its own, or does not fit into it."""
    in_a_column = check.metric in dict(_SHOWN) and check.percentile is None
    return not in_a_column or check.confirmed is not None or len(_limit(check)) > _COLUMN


def _limit(check: CheckResult) -> str:
    sign = "≥" if BY_NAME[check.metric].better == "higher" else "≤"
    return f"{sign} {words.limit(check.limit)}"


def _styled(check: CheckResult, text: str) -> str:
    style = "dim" if check.verdict is Verdict.PASSED else _STYLE.get(check.verdict, "bold red")
    return f"[{style}]{text}[/{style}]"


def _plain(text: str) -> str:
    """Keep rich from reading brackets in a test's name as markup."""
    return escape(text)
