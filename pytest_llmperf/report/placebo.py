"""How is a self-test told? A column for each metric, and the answer, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import msgspec

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.placebo import PairFigures, Placebo, PlaceboSession, rounded_up
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Workload
from pytest_llmperf.report import words

_WIDTH = 80
_LABEL, _COLUMN = 36, 11


class SelftestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    hardware: Hardware
    backend: str
    version: str
    models: list[str]
    workload: Workload
    workers: int
    """How many were started, those of second looks included."""
    wall_s: float
    placebo: Placebo
    sessions: list[PlaceboSession]


def report_lines(report: SelftestReport) -> list[str]:
    """Who was measured, the table, and the answer."""
    found = report.placebo
    asked = report.workload
    tokens = f"{asked.prompt_tokens}+{asked.new_tokens} tokens"
    who = f"{report.backend} {report.version} · {', '.join(report.models)} · {tokens}"
    paragraphs = [
        who,
        words.machine(report.hardware),
        f"{found.sessions} sessions with {report.workers} workers in {report.wall_s:.0f} s",
        "",
        *_table(found.pairs),
        "",
        _false_alarms(found),
        *(f"INVALID: {reason}" for reason in found.invalid),
        *(f"disturbed: {each}" for each in found.always),
        *(f"disturbed: {each.words}, {each.sessions} ×" for each in found.disturbances),
        "",
        found.answer,
        found.rule,
    ]
    return [line for each in paragraphs for line in _folded(each)]


def _false_alarms(found: Placebo) -> str:
    return (
        f"false alarms: {found.red} of {found.judged} judged sessions turned red; the true rate "
        f"lies between {found.red_low * 100:.0f} % and {found.red_high * 100:.0f} % (Wilson, 95 %)"
    )


def _folded(paragraph: str) -> list[str]:
    if len(paragraph) <= _WIDTH:
        return [paragraph]
    return textwrap.wrap(paragraph, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _table(pairs: list[PairFigures]) -> Iterator[str]:
    if not pairs:
        return
    if len({each.model for each in pairs}) > 1:
        yield _row("", [each.model[: _COLUMN - 1] for each in pairs])
    yield _row("", [BY_NAME[each.metric].label for each in pairs])
    yield _row("sessions", [str(each.sessions) for each in pairs])
    yield _row("median, tok/s", [words.number(each.value) for each in pairs])
    yield _row("CV between sessions", [_share(each.session_cv) for each in pairs])
    yield _row("  its 95 % interval, in %", [_interval(each) for each in pairs])
    yield _row("  as the gate reckons (σ)", [_share(each.sigma) for each in pairs])
    yield _row("spread within a worker", [_share(each.spread) for each in pairs])
    yield _row("CV of the probe's repeats", [_share(each.probe_cv) for each in pairs])
    yield _row("  of the probe between sessions", [_share(each.probe_session_cv) for each in pairs])
    yield _row("  its weight β", [f"{each.probe_weight:.2f}" for each in pairs])
    yield _row("CV of the cores between sessions", [_share(each.core_session_cv) for each in pairs])
    yield _row("  their weight β", [f"{each.core_weight:.2f}" for each in pairs])
    yield _row("sessions with a second look", [str(each.second_looks) for each in pairs])
    for verdict in Verdict:
        if any(verdict in each.verdicts for each in pairs):
            yield _row(f"  {verdict}", [str(each.verdicts.get(verdict, 0)) for each in pairs])
    yield _row("smallest loss found (MDE) now", [_loss(each.mde) for each in pairs])
    yield _row("  with 20 sessions like these", [_loss(each.mde_full) for each in pairs])


def _row(label: str, cells: list[str]) -> str:
    return f"{label:<{_LABEL}}{''.join(f'{cell:>{_COLUMN}}' for cell in cells)}".rstrip()


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %"


def _loss(value: float | None) -> str:
    return "–" if value is None else rounded_up(value)


def _interval(pair: PairFigures) -> str:
    if pair.session_cv_low is None or pair.session_cv_high is None:
        return "–"
    return f"{pair.session_cv_low * 100:.1f}–{pair.session_cv_high * 100:.1f}"
