"""What does a reader want to know first? The verdict, what changed, what was not measured."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report import words
from pytest_llmperf.report.github_summary import headline
from pytest_llmperf.report.html import chips
from pytest_llmperf.report.html.drawing import Rows
from pytest_llmperf.report.html.model import (
    Cell,
    Count,
    Fact,
    Figure,
    Overview,
    Skipped,
    Table,
)
from pytest_llmperf.report.html.model import Machine as MachineView
from pytest_llmperf.report.html.one_test import link, pairs_of
from pytest_llmperf.report.html.saying import change_of, name_of, table, value_of
from pytest_llmperf.report.merged import Machine, color
from pytest_llmperf.report.result import JudgedTest

_CHANGED = (Verdict.REGRESSED, Verdict.INCONCLUSIVE, Verdict.IMPROVED)
_DRAWN = 24

_Changed = tuple[Machine, JudgedTest, PairResult]


def overview(machines: Sequence[Machine]) -> Overview:
    """Over all machines."""
    changed = _find_changed(machines)
    names = _Names(machines)
    counts = Counter(chips.of_test(test, each) for each in machines for test in each.tests)
    return Overview(
        chip=chips.of_run(color(machines)),
        headline=headline(machines),
        counts=tuple(Count(chip, counts[chip]) for chip in chips.ORDER if counts[chip]),
        red=_red(machines, names),
        changed=_changed_table(changed, names),
        change_figure=_changed_figure(changed),
        suite=tuple(_suite(machines)),
        skipped=tuple(_skipped(machines, names)),
        notes=tuple(note for each in machines for note in each.notes),
    )


def machine_view(machine: Machine, label: str) -> MachineView:
    """What it is, and what was found wrong with it."""
    hardware = machine.hardware
    return MachineView(
        label=label,
        facts=(
            Fact("fingerprint", hardware.fingerprint),
            Fact("system", f"{hardware.system}, {hardware.arch}, kernel {hardware.kernel}"),
            Fact("measured", f"{machine.created.replace('T', ' ')[:16]} UTC"),
            Fact("pytest-llmperf", ", ".join(machine.llmperf)),
            Fact("tests", f"{len(machine.tests)}, {len(machine.red)} red"),
        ),
        findings=hardware.findings,
    )


def labels(machines: Sequence[Machine]) -> list[str]:
    """What each machine is called; with its fingerprint where two look alike."""
    names = [words.machine(each.hardware) for each in machines]
    return [
        f"{name} · {each.hardware.fingerprint}" if names.count(name) > 1 else name
        for name, each in zip(names, machines, strict=True)
    ]


class _Names:
    """What tells a test from the others: its name, else its path, too; of several its machine."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        ids = {test.test: name_of(test)[1] for each in machines for test in each.tests}
        self._used = Counter(ids.values())
        self._labels = dict(
            zip((each.hardware.fingerprint for each in machines), labels(machines), strict=True)
        )
        self.heads = ("test", "machine") if len(machines) > 1 else ("test",)

    def cells(self, test: JudgedTest, machine: Machine) -> tuple[Cell, ...]:
        """One for each of ``heads``."""
        cell = link(test, machine)
        if self._used[cell.text] > 1:
            cell = replace(cell, text=test.test)
        return (cell, Cell(self._labels[machine.hardware.fingerprint]))[: len(self.heads)]

    def cell(self, test: JudgedTest, machine: Machine) -> Cell:
        """All in one."""
        first, *more = self.cells(test, machine)
        return replace(first, text=" · ".join(each.text for each in (first, *more)))


def _red(machines: Sequence[Machine], names: _Names) -> Table | None:
    found = [(chips.of_test(test, each), test, each) for each in machines for test in each.red]
    found.sort(key=lambda each: chips.ORDER.index(each[0]))
    rows: list[tuple[str | Cell, ...]] = []
    for chip, test, machine in found:
        name, *where = names.cells(test, machine)
        rows.append((Cell("", chip=chip), name, _why(test), *where))
    name_head, *where_head = names.heads
    return table(("verdict", name_head, "why", *where_head), rows) if rows else None


def _why(test: JudgedTest) -> str:
    reasons = [reason for each in test.measurements for reason in each.reasons]
    return test.reason or "; ".join(reasons) or "no reason given"


def _find_changed(machines: Sequence[Machine]) -> list[_Changed]:
    """Every pair that is not plainly as it was, the worst first."""
    found = [
        (each, test, pair)
        for each in machines
        for test, pair in pairs_of(each.tests)
        if pair.verdict in _CHANGED and pair.judgement.effect is not None
    ]
    order = {verdict: place for place, verdict in enumerate(_CHANGED)}
    found.sort(key=lambda each: (order[each[2].verdict], each[2].judgement.effect))
    return found


def _changed_table(changed: Sequence[_Changed], names: _Names) -> Table | None:
    rows: list[tuple[str | Cell, ...]] = [
        (
            Cell("", chip=chips.of_verdict(pair.verdict)),
            *names.cells(test, machine),
            BY_NAME[pair.key.metric].label,
            "; ".join(pair.judgement.reasons),
            "–" if pair.normal is None else value_of(pair.key.metric, pair.normal),
            value_of(pair.key.metric, pair.value),
            change_of(pair),
        )
        for machine, test, pair in changed
    ]
    heads = ("verdict", *names.heads, "metric", "why not certain", "normal", "now", "change")
    return table(heads, rows, numbers=3) if rows else None


def _changed_figure(changed: Sequence[_Changed]) -> Figure | None:
    shown = changed[:_DRAWN]
    if not shown:
        return None
    rows: Rows = []
    for number, (_, test, pair) in enumerate(shown, 1):
        label = f"{number} {name_of(test)[1][:60]} · {BY_NAME[pair.key.metric].label}"
        low, high = pair.interval or (pair.change, pair.change)
        rows.append(
            {
                "name": label,
                "verdict": pair.verdict.value,
                "text": change_of(pair),
                "change": pair.change,
                "low": low,
                "high": high,
            }
        )
    left = len(changed) - len(shown)
    more = f" The first {len(shown)} of {len(changed)}." if left else ""
    told = (
        "More tokens per second are a gain, more milliseconds or GiB a loss; bars are intervals "
        f"of 95 %.{more} Numbers: the table."
    )
    data: dict[str, Rows] = {"changes": rows, "zero": [{"at": 0}]}
    return Figure("change against the baseline", told, "changes", data)


def _suite(machines: Sequence[Machine]) -> list[str]:
    told = []
    for machine, label in zip(machines, labels(machines), strict=True):
        for shift in machine.suite_shifts:
            if shift.verdict is Verdict.NO_BASELINE:
                continue
            if shift.effect is None or shift.needed is None:
                text = shift.reason
            else:
                needed = words.change(shift.needed)
                text = (
                    f"{words.change(shift.effect)} over {shift.pairs} metrics, red below {needed}"
                )
            symbol = chips.of_verdict(shift.verdict)
            where = f" on {label}" if len(machines) > 1 else ""
            told.append(f"{symbol.symbol} {symbol.word}: all tests together{where}: {text}")
    return told


def _skipped(machines: Sequence[Machine], names: _Names) -> list[Skipped]:
    """The most frequent reason first."""
    found: defaultdict[str, list[Cell]] = defaultdict(list)
    for machine in machines:
        for test in machine.tests:
            if test.outcome == "skipped":
                found[test.reason or "no reason given"].append(names.cell(test, machine))
    ordered = sorted(found.items(), key=lambda each: -len(each[1]))
    return [Skipped(reason, tuple(tests)) for reason, tests in ordered]
