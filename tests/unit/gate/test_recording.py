"""Does a session join its baseline, and begin a new one only where somebody said so?"""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.gate import Judgement, Verdict
from pytest_llmperf.gate.baseline import Baseline, EpochLine, PairKey, SessionLine
from pytest_llmperf.gate.baseline_file import BaselineStore
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.recording import Act, entry, record
from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.hardware.core_speed import CHECKSUM
from tests.unit.gate.histories import invocation

KEY = PairKey("test_chat", "1", "decode_tps", "fake model 8+8")
ACT = Act(
    session="run-1",
    date=datetime.datetime(2026, 11, 21, 9, tzinfo=datetime.UTC),
    commit="abc",
    by="ada",
)


def pair(verdict: Verdict = Verdict.PASSED, *, guard: tuple[str, ...] = ()) -> PairResult:
    return PairResult(
        module="test_it.py",
        key=KEY,
        fingerprint="here",
        is_gated=True,
        verdict=verdict,
        tolerance=0.03,
        judgement=Judgement(verdict=verdict),
        normal=21.0,
        since="2026-11-01",
        value=20.0,
        looks=[invocation(0.0, 0.0, guard=guard)],
        conditions={"thermal": 0.0},
        software={"fake": "1"},
    )


def grown(sessions: int = 2) -> Baseline:
    baseline = Baseline(KEY)
    for number in range(sessions):
        act = msgspec.structs.replace(ACT, session=f"old-{number}")
        lines = entry(baseline, pair(), act)
        epochs = tuple(line for line in lines if isinstance(line, EpochLine))
        added = tuple(line for line in lines if isinstance(line, SessionLine))
        baseline = Baseline(KEY, (*baseline.epochs, *epochs), (*baseline.sessions, *added))
    return baseline


def test_a_first_session_begins_the_first_epoch() -> None:
    epoch, session = entry(Baseline(KEY), pair(), ACT)
    assert isinstance(epoch, EpochLine)
    assert (epoch.epoch, epoch.reason, epoch.accepted_by) == (0, "first session", "ada")
    assert isinstance(session, SessionLine)
    assert (session.epoch, session.session, session.value) == (0, "run-1", 20.0)
    assert (session.conditions, session.software) == ({"thermal": 0.0}, {"fake": "1"})


@pytest.mark.parametrize("verdict", [Verdict.PASSED, Verdict.REGRESSED, Verdict.INCONCLUSIVE])
def test_every_valid_session_joins_with_its_flags(verdict: Verdict) -> None:
    (session,) = entry(grown(), pair(verdict, guard=("throttled",)), ACT)
    assert isinstance(session, SessionLine)
    assert (session.epoch, session.guard) == (0, ("throttled",))


@pytest.mark.parametrize(
    ("verdict", "begins"),
    [
        (Verdict.REGRESSED, True),
        (Verdict.IMPROVED, True),
        (Verdict.PASSED, False),
        (Verdict.INCONCLUSIVE, False),
    ],
)
def test_what_got_slower_or_faster_is_accepted(verdict: Verdict, begins: bool) -> None:
    act = msgspec.structs.replace(ACT, accept="new kernels")
    lines = entry(grown(), pair(verdict), act)
    assert [line.epoch for line in lines] == ([1, 1] if begins else [0])
    if begins:
        assert isinstance(lines[0], EpochLine)
        assert (lines[0].reason, lines[0].old, lines[0].new) == ("new kernels", 21.0, 20.0)


def test_another_machine_is_accepted_whole_and_its_flags_with_it() -> None:
    act = msgspec.structs.replace(ACT, accept_all="moved to another host")
    epoch, session = entry(grown(), pair(guard=("the machine is slower",)), act)
    assert epoch.epoch == session.epoch == 1
    assert isinstance(session, SessionLine)
    assert session.guard == ()


def test_what_was_accepted_is_told(tmp_path: Path) -> None:
    assert record(tmp_path, [pair()], ACT) == []
    act = msgspec.structs.replace(ACT, session="run-2", accept="new kernels")
    (accepted,) = record(tmp_path, [pair(Verdict.REGRESSED)], act)
    assert (accepted.fingerprint, accepted.module) == ("here", "test_it.py")
    kept = BaselineStore(tmp_path, "here").read("test_it.py").of(KEY)
    assert [line.epoch for line in kept.sessions] == [0, 1]


LOST = SuiteShift(verdict=Verdict.REGRESSED, fingerprint="here")
MEMORY = PairKey("test_chat", "1", "ram", "fake model 8+8")


@pytest.mark.parametrize(
    ("shift", "accept", "epochs"),
    [
        (LOST, "safer kernels", [0, 1]),
        (LOST, None, [0, 0]),
        (msgspec.structs.replace(LOST, verdict=Verdict.PASSED), "safer kernels", [0, 0]),
        (msgspec.structs.replace(LOST, fingerprint="there"), "safer kernels", [0, 0]),
    ],
)
def test_a_loss_of_the_whole_suite_is_accepted_with_every_speed(
    tmp_path: Path, shift: SuiteShift, accept: str | None, epochs: list[int]
) -> None:
    both = [pair(), msgspec.structs.replace(pair(), key=MEMORY)]
    record(tmp_path, both, ACT)
    act = msgspec.structs.replace(ACT, session="run-2", accept=accept)
    told = record(tmp_path, both, act, [shift])
    assert [each.line.reason for each in told] == ["safer kernels"] * (epochs == [0, 1])
    kept = BaselineStore(tmp_path, "here").read("test_it.py")
    assert [line.epoch for line in kept.of(KEY).sessions] == epochs
    assert [line.epoch for line in kept.of(MEMORY).sessions] == [0, 0]


def test_a_pair_whose_machine_changed_has_no_part_in_the_suites_loss() -> None:
    act = msgspec.structs.replace(ACT, accept="safer kernels")
    lines = entry(grown(), pair(guard=("throttled",)), act, shifted=True)
    assert [line.epoch for line in lines] == [0]


def test_the_state_of_the_machine_is_kept_and_read_back(tmp_path: Path) -> None:
    looks = [
        invocation(0.0, 0.0, log_core=14.0, unusual=True),
        invocation(0.0, 0.0, log_core=14.2),
        invocation(0.0, 0.0, log_core=20.0, guard=("throttled",)),
    ]
    told = msgspec.structs.replace(pair(), looks=looks, software={"fake": "1", **CHECKSUM})
    record(tmp_path, [told], ACT)
    store = BaselineStore(tmp_path, "here")
    (session,) = store.read("test_it.py").of(KEY).history
    assert session.log_core == pytest.approx(14.1), "of the processes that were heard"
    assert session.unusual


def test_an_accepted_machine_is_not_unusual(tmp_path: Path) -> None:
    slow = msgspec.structs.replace(pair(), looks=[invocation(0.0, 0.0, unusual=True)])
    record(tmp_path, [pair()], ACT)
    record(tmp_path, [slow], msgspec.structs.replace(ACT, session="run-2", accept_all="new board"))
    *_, session = BaselineStore(tmp_path, "here").read("test_it.py").of(KEY).history
    assert (session.machine, session.unusual) == (1, False)


def test_a_speed_by_another_checksum_is_not_compared(tmp_path: Path) -> None:
    looks = [invocation(0.0, 0.0, log_core=14.0)]
    other = msgspec.structs.replace(pair(), looks=looks, software={"zlib": "0.9"})
    record(tmp_path, [other], ACT)
    (session,) = BaselineStore(tmp_path, "here").read("test_it.py").of(KEY).history
    assert session.log_core is None
    assert session.log_probe is not None
