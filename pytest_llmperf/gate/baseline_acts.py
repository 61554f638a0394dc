"""Which lines does a person's act add to a baseline: an acceptance afterwards, or a seed?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from pytest_llmperf.gate.baseline import Baseline, EpochLine, Line, PairKey, SessionLine
from pytest_llmperf.gate.baseline_overview import overview
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.recording import Act, entry
from pytest_llmperf.gate.statistics import Cohort


def accept_latest(
    baseline: Baseline, *, by: str, reason: str, date: datetime, cohort: Cohort | None = None
) -> list[Line]:
    """Let the latest session be the first of a new epoch; nothing where it is already.

    The session moves: in the old epoch it would count as noise of what is no longer normal.
    """
    if not baseline.sessions or baseline.epoch is None:
        return []
    *before, latest = baseline.sessions
    current = baseline.epoch.epoch
    if latest.epoch == current and not any(each.epoch == current for each in before):
        return []
    earlier = msgspec.structs.replace(baseline, sessions=tuple(before))
    begun = EpochLine(
        key=baseline.key,
        epoch=baseline.next_epoch,
        date=date,
        accepted_by=by,
        reason=reason,
        commit=latest.commit,
        old=overview(earlier, cohort).centre,
        new=latest.value,
    )
    # What was unlike the history belongs to the new normal; and alone it is no seed of five.
    moved = msgspec.structs.replace(latest, epoch=begun.epoch, guard=(), seeded=False)
    return [begun, moved]


class Seeding(msgspec.Struct, frozen=True, kw_only=True):
    """What runs in one go come to. Pairs are told apart by fingerprint, module and key."""

    lines: dict[tuple[str, str], list[Line]]
    """By fingerprint and module: what is to be written."""
    seeded: list[PairResult]
    left_alone: list[PairResult]
    """They have a baseline."""
    left_out: list[PairResult]
    """They were not measured in every run."""


def seed(
    runs: Sequence[tuple[Act, Sequence[PairResult]]], has_baseline: Callable[[PairResult], bool]
) -> Seeding:
    """The first, provisional baselines of all pairs that have none."""
    found: dict[tuple[str, str, PairKey], list[tuple[Act, PairResult]]] = {}
    for act, pairs in runs:
        for pair in {(each.fingerprint, each.module, each.key): each for each in pairs}.values():
            found.setdefault((pair.fingerprint, pair.module, pair.key), []).append((act, pair))
    told = Seeding(lines={}, seeded=[], left_alone=[], left_out=[])
    for (fingerprint, module, _), seen in found.items():
        pair = seen[0][1]
        if has_baseline(pair):
            told.left_alone.append(pair)
        elif len(seen) < len(runs):
            told.left_out.append(pair)
        else:
            told.seeded.append(pair)
            told.lines.setdefault((fingerprint, module), []).extend(_seed_lines(seen))
    return told


def _seed_lines(seen: Sequence[tuple[Act, PairResult]]) -> list[Line]:
    middle = statistics.median(pair.value for _, pair in seen)
    lines: list[Line] = []
    for act, pair in seen:
        for line in entry(Baseline(pair.key), pair, act):
            if isinstance(line, SessionLine):
                lines.append(msgspec.structs.replace(line, seeded=True))
            elif not lines:
                lines.append(msgspec.structs.replace(line, old=None, new=middle))
    return lines
