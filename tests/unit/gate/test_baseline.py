"""What becomes of a pair's baseline when sessions are recorded and new normals accepted?"""

from __future__ import annotations

import datetime
import math
from typing import Any

import msgspec
import pytest

from pytest_llmperf.gate.baseline import (
    Baseline,
    EntryRefused,
    EpochLine,
    ModuleBaselines,
    PairKey,
    SessionLine,
    accept,
    prune,
    record,
)

KEY = PairKey("test_chat[Q4_K_M]", "1", "decode_tps", "llama-cpp llama-160m Q4_K_M 512+128")
OTHER = PairKey("test_chat[Q8_0]", "1", "decode_tps", "llama-cpp llama-160m Q8_0 512+128")
NOON = datetime.datetime(2026, 11, 2, 12, tzinfo=datetime.UTC)


def epoch(number: int = 0, *, key: PairKey = KEY, **changes: Any) -> EpochLine:
    line = EpochLine(
        key=key,
        epoch=number,
        date=NOON,
        accepted_by="ann",
        reason="new driver",
        commit="0123abc",
        old=20.0 if number else None,
        new=21.9,
    )
    return msgspec.structs.replace(line, **changes)


def session(number: int = 0, *, key: PairKey = KEY, **changes: Any) -> SessionLine:
    line = SessionLine(
        key=key,
        epoch=0,
        session=f"run-{number}",
        date=NOON + datetime.timedelta(hours=number),
        commit="0123abc",
        value=21.9,
        log_value=3.086,
        spread=0.01,
        n=10,
    )
    return msgspec.structs.replace(line, **changes)


def history(*sessions: SessionLine, epochs: int = 1) -> Baseline:
    """A baseline in which all epochs were accepted first."""
    baseline = Baseline(KEY, tuple(epoch(number) for number in range(epochs)))
    for each in sessions:
        baseline = record(baseline, each)
    return baseline


def names(baseline: Baseline) -> list[str]:
    return [each.session for each in baseline.sessions]


def test_the_judge_gets_the_sessions_oldest_first() -> None:
    baseline = history(session(0, log_value=3.0), session(1, log_value=3.1, guard=("throttled",)))
    assert [each.log_value for each in baseline.history] == [3.0, 3.1]
    assert baseline.history[1].guard == ("throttled",)


def test_a_session_recorded_again_takes_its_own_place() -> None:
    baseline = history(session(0), session(1), session(2))
    again = record(baseline, session(1, value=19.0))
    assert names(again) == ["run-0", "run-1", "run-2"]
    assert [each.value for each in again.sessions] == [21.9, 19.0, 21.9]
    assert record(again, session(1, value=19.0)) == again


def test_a_session_recorded_again_under_a_new_epoch_moves_there() -> None:
    baseline = accept(history(session(0), session(1)), epoch(1))
    moved = record(baseline, session(0, epoch=1))
    assert [(each.session, each.epoch) for each in moved.sessions] == [("run-1", 0), ("run-0", 1)]


def test_a_late_session_of_an_earlier_epoch_stands_in_its_epoch() -> None:
    baseline = history(session(0), session(1, epoch=1), epochs=2)
    assert names(record(baseline, session(2))) == ["run-0", "run-2", "run-1"]


def test_a_clock_set_back_reorders_nothing_and_is_marked_once() -> None:
    baseline = history(session(50), session(51), session(3), session(4), session(4, session="tie"))
    assert names(baseline) == ["run-50", "run-51", "run-3", "run-4", "tie"]
    assert [each.clock_back for each in baseline.sessions] == [False, False, True, False, False]


def test_the_first_of_the_epoch_and_the_latest_are_kept() -> None:
    baseline = history(*(session(number) for number in range(50)))
    assert names(baseline) == [f"run-{number}" for number in [*range(20), *range(30, 50)]]
    assert prune(baseline) == baseline


def test_a_new_epoch_keeps_the_latest_of_the_old_one_and_its_line() -> None:
    baseline = accept(history(*(session(number) for number in range(50))), epoch(1))
    assert names(baseline) == [f"run-{number}" for number in range(30, 50)]
    assert [each.epoch for each in baseline.epochs] == [0, 1]
    for number in range(50, 69):
        baseline = record(baseline, session(number, epoch=1))
    assert [each.epoch for each in baseline.epochs] == [0, 1]
    baseline = record(baseline, session(69, epoch=1))
    assert names(baseline) == [f"run-{number}" for number in range(50, 70)]
    assert baseline.epochs == (epoch(1),)


def test_acceptances_are_counted_from_zero() -> None:
    assert Baseline(KEY).epoch is None
    baseline = accept(Baseline(KEY), epoch(Baseline(KEY).next_epoch))
    assert baseline.epoch == epoch(0)
    assert accept(baseline, epoch(baseline.next_epoch)).epoch == epoch(1)


def test_the_same_acceptance_twice_is_one() -> None:
    baseline = history(session(0))
    assert accept(baseline, epoch(0)) == baseline


def test_two_who_accept_at_once_are_not_mixed_and_the_second_learns_who_was_first() -> None:
    baseline = accept(history(session(0)), epoch(1))
    with pytest.raises(EntryRefused, match=r"epoch 1, the next one is 2; ann .*new driver") as seen:
        accept(baseline, epoch(1, accepted_by="bob"))
    assert KEY.text in str(seen.value)


@pytest.mark.parametrize(
    ("baseline", "why"),
    [
        (Baseline(KEY), "epoch 3, which was never accepted: the pair has no baseline yet"),
        (history(), "epoch 3, which is not kept; ann accepted epoch 0 on 2026-11-02"),
    ],
)
def test_a_session_needs_an_accepted_epoch(baseline: Baseline, why: str) -> None:
    with pytest.raises(EntryRefused, match=why):
        record(baseline, session(epoch=3))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["value", "log_value", "spread", "log_probe", "probe_cv"])
def test_what_is_no_number_is_not_recorded(field: str, number: float) -> None:
    changes: dict[str, Any] = {field: number}
    with pytest.raises(EntryRefused, match=f"{field} is {number}"):
        record(history(), session(**changes))


def test_a_condition_or_an_acceptance_that_is_no_number_is_refused() -> None:
    with pytest.raises(EntryRefused, match="cpu_pressure is nan"):
        record(history(), session(conditions={"cpu_pressure": math.nan}))
    with pytest.raises(EntryRefused, match="new is inf"):
        accept(history(), epoch(1, new=math.inf))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"n": 0}, ">= 1"),
        ({"spread": -0.1}, ">= 0"),
        ({"date": datetime.datetime(2026, 11, 2)}, "timezone"),
        ({"value": None}, "Expected `float`, got `null`"),
        ({"session": "\udc80"}, "surrogates not allowed"),
    ],
)
def test_what_could_not_be_read_back_is_not_recorded(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(EntryRefused, match=f"could not be read back.*{why}"):
        record(history(), session(**changes))


def test_numbers_and_dates_are_kept_as_short_as_the_judge_needs_them() -> None:
    east = datetime.timezone(datetime.timedelta(hours=2))
    date = datetime.datetime(2026, 11, 2, 14, 30, 1, 999, tzinfo=east)
    long = session(date=date, log_value=3.0864197530, conditions={"faults": 12345678.9})
    (kept,) = history(long).sessions
    assert kept.date == datetime.datetime(2026, 11, 2, 12, 30, 1, tzinfo=datetime.UTC)
    assert kept.date.tzinfo is datetime.UTC
    assert (kept.log_value, kept.conditions) == (3.08642, {"faults": 12345700.0})


def test_an_entry_of_another_pair_is_refused() -> None:
    with pytest.raises(EntryRefused, match="was given to"):
        record(history(), session(key=OTHER))
    with pytest.raises(EntryRefused, match="was given to"):
        accept(history(), epoch(1, key=OTHER))


def test_changes_of_a_module_are_all_made_or_none() -> None:
    module = ModuleBaselines("test_it.py").with_lines([epoch(), session(0)])
    with pytest.raises(EntryRefused):
        module.with_lines([session(1), session(1, key=OTHER)])
    assert names(module.of(KEY)) == ["run-0"]
    both = module.with_lines([epoch(key=OTHER), session(1, key=OTHER)])
    assert both.of(KEY) is module.of(KEY)
    assert both.without([KEY]).pairs == {OTHER: both.of(OTHER)}
    assert module.of(OTHER) == Baseline(OTHER)


def test_a_first_acceptance_with_a_later_number_is_refused() -> None:
    with pytest.raises(EntryRefused, match="the next one is 0; nothing was accepted yet"):
        accept(Baseline(KEY), epoch(1))
