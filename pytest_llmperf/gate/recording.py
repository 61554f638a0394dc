"""What does a run write into the baselines? An explicit act: nothing is learned by measuring."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from pytest_llmperf.gate.baseline import Baseline, EpochLine, Line, SessionLine
from pytest_llmperf.gate.baseline_file import BaselineStore
from pytest_llmperf.gate.pair import SPEEDS, PairResult, mean
from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict

_CHANGED = frozenset({Verdict.REGRESSED, Verdict.IMPROVED})


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One run that writes: who, when, and what of it is the new normal."""

    session: str
    """Name of the run, the same for all pairs."""
    date: datetime
    commit: str | None
    by: str
    accept: str | None = None
    """Why what got slower or faster is accepted; None: it is not."""
    accept_all: str | None = None
    """Why everything is: another machine."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A new normal in place of an older one, and where it stands."""

    fingerprint: str
    module: str
    line: EpochLine


def record(
    root: Path, pairs: Sequence[PairResult], act: Act, shifts: Sequence[SuiteShift] = ()
) -> list[Accepted]:
    """Add the session to the baselines of every pair; what was accepted as a new normal.

    ``shifts``: the verdicts over all pairs; a red one is accepted with all speeds behind it.
    Every valid session counts, those that turned red included: without them the noise would look
    smaller than it is. Raises BaselineError; a module's file is written whole or not at all.
    """
    accepted: list[Accepted] = []
    shifted = {each.fingerprint for each in shifts if each.verdict is Verdict.REGRESSED}
    for fingerprint in sorted({pair.fingerprint for pair in pairs}):
        store = BaselineStore(root, fingerprint)
        for module in sorted({pair.module for pair in pairs if pair.fingerprint == fingerprint}):
            known = store.read(module)
            lines: list[Line] = []
            for pair in pairs:
                if (pair.fingerprint, pair.module) == (fingerprint, module):
                    lines += entry(known.of(pair.key), pair, act, shifted=fingerprint in shifted)
            store.update(module, lines)
            accepted += [
                Accepted(fingerprint=fingerprint, module=module, line=line)
                for line in lines
                if isinstance(line, EpochLine) and line.epoch > 0
            ]
    return accepted


def entry(baseline: Baseline, pair: PairResult, act: Act, *, shifted: bool = False) -> list[Line]:
    """The lines of one pair: its session, after an acceptance where it begins a new normal.

    ``shifted``: all pairs of its machine together got slower.
    """
    reason = _reason(baseline, pair, act, shifted=shifted)
    lines: list[Line] = []
    epoch = baseline.next_epoch - (reason is None)
    if reason is not None:
        lines.append(
            EpochLine(
                key=pair.key,
                epoch=epoch,
                date=act.date,
                accepted_by=act.by,
                reason=reason,
                commit=act.commit,
                old=pair.normal,
                new=pair.value,
            )
        )
    seen = mean(pair.looks)
    lines.append(
        SessionLine(
            key=pair.key,
            epoch=epoch,
            session=act.session,
            date=act.date,
            commit=act.commit,
            value=pair.value,
            log_value=seen.log_value,
            spread=seen.spread,
            n=seen.n,
            log_probe=seen.log_probe,
            probe_cv=seen.probe_cv,
            log_core=seen.log_core,
            unusual=seen.unusual and act.accept_all is None,
            guard=() if reason is not None else seen.guard,
            machine=baseline.machine + (act.accept_all is not None and bool(baseline.epochs)),
            conditions=pair.conditions,
            software=pair.software,
        )
    )
    return lines


def _reason(baseline: Baseline, pair: PairResult, act: Act, *, shifted: bool) -> str | None:
    """Why the session begins a new epoch; None: it belongs to the current one."""
    if not baseline.epochs:
        return act.accept or act.accept_all or "first session"
    if act.accept_all is not None:
        return act.accept_all
    return act.accept if pair.verdict in _CHANGED or (shifted and _took_part(pair)) else None


def _took_part(pair: PairResult) -> bool:
    """Whether a verdict over all pairs heard this one: what another machine does is no normal."""
    return pair.key.metric in SPEEDS and not pair.looks[0].guard
