"""What is the accepted normal of one gated pair, and how does it change?

A *pair* is one metric of one measurement of a test, in one configuration. Its *epochs* are the
acceptances of a new normal; its sessions stand epoch by epoch, and within an epoch in the order
in which they were recorded. A date is shown, never sorted by: a clock that was set back reorders
nothing, and the session at which it happened is marked (``clock_back``).

How these facts lie on disk: :mod:`pytest_llmperf.gate.baseline_file`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from pytest_llmperf.gate.summary import MOST_LOG, SessionSummary
from pytest_llmperf.hardware.core_speed import CHECKSUM

FIRST_OF_EPOCH = 20
"""The centre is learned from these; they stay as long as their epoch is the current one."""
LATEST = 20
"""The noise is learned from these, whichever epoch they belong to."""

_DIGITS = 6

Date = Annotated[datetime, Meta(tz=True)]


class BaselineError(Exception):
    """Baselines cannot be read or changed; the message says what, where, and what to do."""


class EntryRefused(BaselineError):
    """An entry contradicts its baseline, or could not be read back; nothing was changed."""


class PairKey(msgspec.Struct, frozen=True, order=True, gc=False, forbid_unknown_fields=True):
    """Which numbers belong together. Its order is the order of the file."""

    test: str
    """Node id within the module, without the module's path."""
    measure: str
    """Name or ordinal of the measurement within the test."""
    metric: str
    config: str
    """Engine, model, options and workload, short and readable; never the engine's version."""

    @property
    def text(self) -> str:
        """As a message names it."""
        return f"{self.metric} of {self.test} (measurement {self.measure}, {self.config})"


class EpochLine(
    msgspec.Struct, tag_field="kind", tag="epoch", frozen=True, kw_only=True,
    forbid_unknown_fields=True,
):  # fmt: skip
    """Somebody accepted a new normal."""

    key: PairKey
    epoch: Annotated[int, Meta(ge=0)]
    """Counted from 0."""
    date: Date
    accepted_by: str
    reason: str
    commit: str | None
    old: float | None
    """The normal until then, in the metric's unit; None: there was none."""
    new: float


class SessionLine(
    SessionSummary, tag_field="kind", tag="session", frozen=True, kw_only=True,
    forbid_unknown_fields=True, omit_defaults=True,
):  # fmt: skip
    """What one session measured of the pair: the facts of the judge, and those for people."""

    key: PairKey
    epoch: int
    log_value: Annotated[float, Meta(ge=-MOST_LOG, le=MOST_LOG)]
    log_probe: Annotated[float, Meta(ge=-MOST_LOG, le=MOST_LOG)] | None = None
    log_core: Annotated[float, Meta(ge=-MOST_LOG, le=MOST_LOG)] | None = None
    spread: Annotated[float, Meta(ge=0)]
    n: Annotated[int, Meta(ge=1)]
    session: str
    """Which run; the same text for all pairs of one run."""
    date: Date
    commit: str | None = None
    value: float
    """In the metric's unit, for people; the judge reads ``log_value``."""
    conditions: dict[str, float] = msgspec.field(default_factory=dict)
    software: dict[str, str] = msgspec.field(default_factory=dict)
    """Versions by name, such as that of the engine."""
    clock_back: bool = False
    """Dated before the session that was recorded before it."""


Line = EpochLine | SessionLine
_AnyLine = TypeVar("_AnyLine", EpochLine, SessionLine)


class Baseline(msgspec.Struct, frozen=True):
    """One pair: all that is kept of it."""

    key: PairKey
    epochs: tuple[EpochLine, ...] = ()
    """Ascending."""
    sessions: tuple[SessionLine, ...] = ()

    @property
    def machine(self) -> int:
        """How often another machine was accepted."""
        return self.sessions[-1].machine if self.sessions else 0

    @property
    def history(self) -> tuple[SessionSummary, ...]:
        """What the judge takes, oldest first; without a speed of cores by another checksum."""
        return tuple(
            each
            if each.log_core is None or CHECKSUM.items() <= each.software.items()
            else msgspec.structs.replace(each, log_core=None)
            for each in self.sessions
        )

    @property
    def epoch(self) -> EpochLine | None:
        """The current one; None before the first acceptance."""
        return self.epochs[-1] if self.epochs else None

    @property
    def next_epoch(self) -> int:
        """The number of the next acceptance."""
        return self.epochs[-1].epoch + 1 if self.epochs else 0


class ModuleBaselines(msgspec.Struct, frozen=True):
    """All pairs of one test module: one file."""

    module: str
    pairs: dict[PairKey, Baseline] = msgspec.field(default_factory=dict)

    def of(self, key: PairKey) -> Baseline:
        """The pair's baseline, empty if there is none."""
        return self.pairs.get(key, Baseline(key))

    def with_lines(self, lines: Iterable[Line]) -> ModuleBaselines:
        """Accept and record in the order given. Raises EntryRefused, and then nothing is done."""
        pairs = dict(self.pairs)
        for line in lines:
            baseline = pairs.get(line.key, Baseline(line.key))
            if isinstance(line, EpochLine):
                pairs[line.key] = accept(baseline, line)
            else:
                pairs[line.key] = record(baseline, line)
        return ModuleBaselines(self.module, pairs)

    def without(self, keys: Collection[PairKey]) -> ModuleBaselines:
        """Forget these pairs."""
        kept = {key: each for key, each in self.pairs.items() if key not in keys}
        return ModuleBaselines(self.module, kept)


def record(baseline: Baseline, session: SessionLine) -> Baseline:
    """Add a session at the end of its epoch, or put it in the place of the one of the same name.

    Raises EntryRefused if its epoch was never accepted, or if it holds what no file can.
    """
    line = _as_kept(baseline, session)
    if line.epoch not in {each.epoch for each in baseline.epochs}:
        raise EntryRefused(
            f"{line.key.text}: session {line.session} belongs to epoch {line.epoch}, which "
            f"{_known_epochs(baseline)}. Accept first, or measure again by the present baseline"
        )
    others = [each for each in baseline.sessions if each.session != line.session]
    place = sum(each.epoch <= line.epoch for each in others)
    for index, each in enumerate(baseline.sessions):
        if (each.session, each.epoch) == (line.session, line.epoch):
            place = index
    before = [each for each in others[:place] if each.epoch == line.epoch]
    clock_back = bool(before) and line.date < before[-1].date
    others.insert(place, msgspec.structs.replace(line, clock_back=clock_back))
    return prune(Baseline(baseline.key, baseline.epochs, tuple(others)))


def accept(baseline: Baseline, epoch: EpochLine) -> Baseline:
    """Begin a new epoch; the same acceptance a second time changes nothing.

    Raises EntryRefused if its number is not the next one: somebody else accepted meanwhile.
    """
    line = _as_kept(baseline, epoch)
    if line in baseline.epochs:
        return baseline
    if line.epoch != baseline.next_epoch:
        raise EntryRefused(
            f"{line.key.text}: cannot accept epoch {line.epoch}, the next one is "
            f"{baseline.next_epoch}; {_last_acceptance(baseline)}. If yours still holds beside "
            "it, accept again"
        )
    return prune(Baseline(baseline.key, (*baseline.epochs, line), baseline.sessions))


def prune(baseline: Baseline) -> Baseline:
    """Keep the first sessions of the current epoch, the latest of all, and their epochs."""
    current = baseline.next_epoch - 1
    first = [each for each in baseline.sessions if each.epoch == current][:FIRST_OF_EPOCH]
    names = {each.session for each in (*first, *baseline.sessions[-LATEST:])}
    sessions = tuple(each for each in baseline.sessions if each.session in names)
    needed = {current, *(each.epoch for each in sessions)}
    epochs = tuple(each for each in baseline.epochs if each.epoch in needed)
    return Baseline(baseline.key, epochs, sessions)


def _as_kept(baseline: Baseline, line: _AnyLine) -> _AnyLine:
    """The line as it will be read back: short numbers, whole seconds, UTC."""
    if line.key != baseline.key:
        raise EntryRefused(f"an entry for {line.key.text} was given to {baseline.key.text}")
    short: dict[str, object] = {
        name: _short(line.key, name, value)
        for name in line.__struct_fields__
        if isinstance(value := getattr(line, name), float)
    }
    if isinstance(line, SessionLine):
        conditions = {
            name: _short(line.key, name, line.conditions[name]) for name in line.conditions
        }
        short["conditions"] = conditions
    if line.date.tzinfo is not None:  # reading it back refuses one without
        short["date"] = line.date.astimezone(UTC).replace(microsecond=0)
    try:
        written = msgspec.json.encode(msgspec.structs.replace(line, **short))
        return msgspec.json.decode(written, type=type(line))
    except ValueError as error:
        raise EntryRefused(
            f"{line.key.text}: this entry could not be read back: {error}"
        ) from error


def _short(key: PairKey, name: str, value: float) -> float:
    """Rounded to six digits. JSON has no NaN, and null would read as a fact that is unknown."""
    if not math.isfinite(value):
        raise EntryRefused(
            f"{key.text}: {name} is {value}. Such a measurement is invalid and must not be recorded"
        )
    return float(f"{value:.{_DIGITS}g}")


def _known_epochs(baseline: Baseline) -> str:
    if baseline.epoch is None:
        return "was never accepted: the pair has no baseline yet"
    return f"is not kept; {_last_acceptance(baseline)}"


def _last_acceptance(baseline: Baseline) -> str:
    if (last := baseline.epoch) is None:
        return "nothing was accepted yet"
    return f"{last.accepted_by} accepted epoch {last.epoch} on {last.date:%Y-%m-%d} ({last.reason})"
