"""What does the page of a GitHub job say? The verdict first, then numbers, then what is missing.

GitHub drops a step's summary as a whole when it is larger than 1 MiB, with what other tools of the
step have written (docs.github.com, "Workflow commands", adding a job summary). So the worst come
first, and what has no room is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report import words
from pytest_llmperf.report.closing import skip_reasons, suite_text, without_baseline
from pytest_llmperf.report.comparison import comparison_line
from pytest_llmperf.report.markdown import escaped, table
from pytest_llmperf.report.merged import Machine, color
from pytest_llmperf.report.result import Comparison, JudgedMeasurement, JudgedTest, valid_pairs

MOST_BYTES = 1 << 20
_SHOWN = ("decode_tps", "prefill_tps", "queue_tps", "ttft", "ram", "vram")
_ORDER = list(reversed(Verdict))
"""The worst first."""
_CLOSING = "… and {} more lines, for which a summary has no room: they are in the JSON of the run."


def summary(machines: Sequence[Machine], room_bytes: int = MOST_BYTES) -> str:
    """Markdown of at most ``room_bytes``; empty if not even the verdict has room."""
    lines = [f"## llmperf: {headline(machines)}", ""]
    ranked = sorted(machines, key=_rank)
    red = [(each, part) for each in ranked if (part := _red(each))]
    is_red = [each for each, _ in red]
    rest = [(each, part) for each in ranked if (part := _rest(each)) or each not in is_red]
    headed: Machine | None = None
    for machine, part in [*red, *rest]:
        if machine is not headed:
            lines += [_heading(machine), ""]
            headed = machine
        lines += part
    return _within(lines, room_bytes)


def headline(machines: Sequence[Machine]) -> str:
    """``2 of 14 tests red: 1 over budget, 1 regressed, 12 passed``: first what is red."""
    tests = [test for machine in machines for test in machine.tests]
    red = sum(len(machine.red) for machine in machines)
    verdicts = sum((machine.verdicts for machine in machines), Counter[Verdict]())
    missing = sum(machine.missing for machine in machines)
    ended = f"{len(tests)} of {len(tests) + missing} tests have a result"
    told = [ended] * bool(missing)
    seen = {each: f"{verdicts[each]} {words.VERDICTS[each]}" for each in _ORDER if verdicts[each]}
    told += [text for verdict, text in seen.items() if verdict.fails(strict=False)]
    otherwise = sum(len(machine.failed_otherwise) for machine in machines)
    told += [f"{otherwise} failed otherwise"] * bool(otherwise)
    suites = sum(len(machine.red_suites) for machine in machines)
    told += [f"{words.count(suites, 'suite')} regressed"] * bool(suites)
    told += [text for verdict, text in seen.items() if not verdict.fails(strict=False)]
    skipped = sum(each.outcome == "skipped" for each in tests)
    told += [f"{skipped} skipped"] * bool(skipped)
    told += [f"exit status {each}" for machine in machines for each in machine.exit_statuses]
    return ": ".join(filter(None, (_color(machines, red, len(tests)), ", ".join(told))))


def _color(machines: Sequence[Machine], red: int, tests: int) -> str:
    if red:
        return f"{red} of {words.count(tests, 'test')} red"
    return color(machines)


def _rank(machine: Machine) -> int:
    """The lowest has the worst to tell."""
    if machine.failed_otherwise or machine.failed_beside:
        return -1
    verdicts = [shift.verdict for shift in machine.red_suites]
    verdicts += [each.verdict for each in machine.tests if each.verdict is not None]
    return min(map(_ORDER.index, verdicts), default=len(_ORDER))


def _heading(machine: Machine) -> str:
    date = machine.created[:10]
    where = f"{words.machine(machine.hardware)} · {date} · {', '.join(machine.llmperf)}"
    return f"### {escaped(where)}"


def _red(machine: Machine) -> list[str]:
    """What made it red, of every kind."""
    suites = [f"suite: {suite_text(each)}" for each in machine.red_suites]
    notes = _notes(machine) if machine.failed_beside else []
    parts = [*_failed_otherwise(machine.failed_otherwise), *_listed([*suites, *notes])]
    return [*parts, *_rows(machine, fails=True)]


def _rest(machine: Machine) -> list[str]:
    shifts = [
        f"suite: {suite_text(each)}"
        for each in machine.suite_shifts
        if each.verdict is not Verdict.NO_BASELINE and each not in machine.red_suites
    ]
    gated = [pair for pair in valid_pairs(machine.tests) if pair.is_gated]
    notes = [] if machine.failed_beside else _notes(machine)
    listed = _listed([*shifts, *without_baseline(gated), *notes])
    return [*_rows(machine, fails=False), *_skipped(machine.tests), *listed]


def _notes(machine: Machine) -> list[str]:
    return [f"note: {each}" for each in machine.notes]


def _rows(machine: Machine, *, fails: bool) -> list[str]:
    """Tables of what fails by its verdict, or of everything else."""

    def belongs(verdict: Verdict | None) -> bool:
        return (verdict is not None and verdict.fails(strict=machine.strict)) is fails

    measured = [(test, each) for test in machine.tests for each in test.measurements]
    compared = [(test, each) for test in machine.tests for each in test.comparisons]
    return [
        *_measured([each for each in measured if belongs(each[1].verdict)]),
        *_compared([each for each in compared if belongs(each[1].verdict)]),
    ]


def _measured(told: Sequence[tuple[JudgedTest, JudgedMeasurement]]) -> list[str]:
    """Measurements, the worst first."""
    if not told:
        return []
    shown = [name for name in _SHOWN if any(name in each.measurement.metrics for _, each in told)]
    head = ["verdict", "test", "why", *(f"{BY_NAME[name].label}, {_unit(name)}" for name in shown)]
    rows = [
        [
            f"**{judged.verdict}**",
            escaped(_title(test, judged)),
            escaped(_why(test, judged)),
            *(_number(judged, name) for name in shown),
        ]
        for test, judged in sorted(told, key=lambda each: _ORDER.index(each[1].verdict))
    ]
    return [*table(head, rows, numbers=len(shown)), ""]


def _unit(name: str) -> str:
    return BY_NAME[name].unit


def _title(test: JudgedTest, judged: JudgedMeasurement) -> str:
    seen = judged.measurement
    name = f" · {seen.name}" if len(test.measurements) > 1 else ""
    return f"{test.test}{name} ({seen.backend} {words.model(seen)})"


def _why(test: JudgedTest, judged: JudgedMeasurement) -> str:
    if judged.verdict.fails(strict=False):
        return test.reason or "; ".join(judged.reasons)
    return "; ".join(judged.reasons) if judged.verdict is Verdict.INCONCLUSIVE else ""


def _number(judged: JudgedMeasurement, name: str) -> str:
    """The value, and its change against the baseline where there is one."""
    value = judged.value(name)
    if value is None:
        return "–"
    gated = [pair for pair in judged.pairs if pair.key.metric == name and pair.is_gated]
    text = words.number(value)
    changes = [words.change(pair.change) for pair in gated if pair.change is not None]
    return f"{text} ({changes[0]})" if changes else text


def _compared(told: Sequence[tuple[JudgedTest, Comparison]]) -> list[str]:
    """Comparisons, the worst first, and at last those without a limit."""
    if not told:
        return []
    order = [*_ORDER, None]
    rows = [
        [
            f"**{compared.verdict or '–'}**",
            escaped(test.test),
            escaped(comparison_line(compared)),
        ]
        for test, compared in sorted(told, key=lambda each: order.index(each[1].verdict))
    ]
    return [*table(["verdict", "test", "A against B"], rows), ""]


def _failed_otherwise(tests: Sequence[JudgedTest]) -> list[str]:
    """By an assertion of their own, or before anything was measured."""
    rows = [[escaped(each.test), escaped(each.reason or "no reason given")] for each in tests]
    return [*table(["failed otherwise", "why"], rows), ""] if rows else []


def _skipped(tests: Sequence[JudgedTest]) -> list[str]:
    rows = [[escaped(reason), str(count)] for reason, count in skip_reasons(tests).most_common()]
    return [*table(["skipped, because", "tests"], rows, numbers=1), ""] if rows else []


def _listed(texts: Sequence[str]) -> list[str]:
    return [*(f"- {escaped(each)}" for each in texts), ""] if texts else []


def _within(lines: Sequence[str], room_bytes: int) -> str:
    """As many lines as there is room for, and how many there was none for."""
    whole = "\n".join(lines) + "\n"
    if len(whole.encode()) <= room_bytes:
        return whole
    closing = f"\n{_CLOSING.format(len(lines))}\n"
    left, kept = room_bytes - len(closing.encode()), 0
    for line in lines:
        left -= len(line.encode()) + 1
        if left < 0:
            break
        kept += 1
    if not kept:
        return ""
    return "\n".join(lines[:kept]) + "\n\n" + _CLOSING.format(len(lines) - kept) + "\n"
