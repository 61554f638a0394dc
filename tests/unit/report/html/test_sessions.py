"""Is the series of a pair its baseline's, else the history's, and never this run twice?"""

from __future__ import annotations

import datetime
import math
import statistics
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.gate.pair import Earlier, PairResult
from pytest_llmperf.gate.verdict import Judgement, Verdict
from pytest_llmperf.history import History, HistoryError, Invocation, SessionRecord, Value
from pytest_llmperf.report.html.sessions import kept, past_in, series
from tests.unit.report.test_failure import DECODE

NOON = datetime.datetime(2026, 11, 1, 12, tzinfo=datetime.UTC)
TWO = [
    Earlier(date="2026-11-01T12:00", value=200.0, epoch=0, commit="abc"),
    Earlier(date="2026-11-02T12:00", value=192.0, epoch=0),
]


def with_past(*earlier: Earlier) -> PairResult:
    return msgspec.structs.replace(DECODE, earlier=list(earlier))


def test_a_series_has_every_session_the_band_and_this_run() -> None:
    figure = series(OLD, TWO)
    assert figure is not None
    assert figure.title == "decode, tok/s over 3 sessions"
    assert [row["value"] for row in figure.data["past"]] == [200.0, 192.0]
    assert [row["commit"] for row in figure.data["past"]] == ["abc", "–"]
    assert figure.data["starts"] == []
    assert [row["at"] for row in figure.data["band"]] == ["2026-11-01T12:00 #1", "this run"]
    assert ends(OLD) == pytest.approx((196 * 0.97, 196 / 0.97))
    assert figure.told == (
        "2 kept, the oldest of 2026-11-01: 192 tok/s to 200 tok/s; this run (diamond): 184 tok/s. "
        "Band: 190 tok/s to 202 tok/s, the tolerance of 3 % around 196 tok/s, the normal for "
        "today's machine. It is not the verdict, which has to be sure, too."
    )


@pytest.mark.parametrize(("sessions", "tolerance"), [(4, 0.10), (5, 0.05), (9, 0.05), (10, 0.03)])
def test_the_band_is_what_the_gate_tolerates_of_a_baseline_so_young(
    sessions: int, tolerance: float
) -> None:
    young = after(sessions)
    assert ends(young) == pytest.approx((196 * (1 - tolerance), 196 / (1 - tolerance)))
    ram = msgspec.structs.replace(young, key=msgspec.structs.replace(young.key, metric="ram"))
    assert ends(ram) == pytest.approx((196 * 0.97, 196 / 0.97)), "memory is counted, not timed"


def after(sessions: int) -> PairResult:
    judgement = msgspec.structs.replace(DECODE.judgement, sessions=sessions)
    return msgspec.structs.replace(DECODE, judgement=judgement)


OLD = after(10)


def ends(pair: PairResult) -> tuple[object, object]:
    figure = series(pair, TWO)
    assert figure is not None
    assert len({(row["low"], row["high"]) for row in figure.data["band"]}) == 1
    return figure.data["band"][0]["low"], figure.data["band"][0]["high"]


def test_the_band_reaches_back_to_where_its_normal_was_accepted() -> None:
    third = Earlier(date="2026-11-03T12:00", value=180.0, epoch=1)
    fourth = Earlier(date="2026-11-04T12:00", value=181.0, epoch=1)
    figure = series(OLD, [*TWO, third, fourth])
    assert figure is not None
    assert [row["at"] for row in figure.data["starts"]] == ["2026-11-03T12:00 #3"]
    assert [row["at"] for row in figure.data["band"]] == ["2026-11-03T12:00 #3", "this run"]
    assert "Upright lines: a new normal was accepted." in figure.told


def test_without_a_past_there_is_no_series_and_without_a_gate_no_band() -> None:
    assert series(DECODE, []) is None
    judgement = Judgement(verdict=Verdict.NO_BASELINE, sessions=2)
    for changes in ({"normal": None}, {"is_gated": False}, {"judgement": judgement}):
        figure = series(msgspec.structs.replace(DECODE, **changes), TWO)
        assert figure is not None
        assert figure.data["band"] == []
        assert "Band" not in figure.told


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Two sessions of the pair, one of another configuration, one of another machine, and this."""
    url = f"sqlite:///{tmp_path / 'h.db'}"
    sessions = (
        ("one", "here", "fake", 200.0),
        ("other options", "here", "fake n_threads=1", 100.0),
        ("elsewhere", "there", "fake", 300.0),
        ("two", "here", "fake", 192.0),
        ("this", "here", "fake", DECODE.value),
    )
    with History.open(url) as history:
        for number, (name, fingerprint, config, value) in enumerate(sessions):
            at = NOON + datetime.timedelta(days=number)
            history.record(_session(name, at, fingerprint, config, value))
    return url


def _session(
    name: str, at: datetime.datetime, fingerprint: str, config: str, value: float
) -> SessionRecord:
    return SessionRecord(
        id=name, started_at=at, wall_s=1, commit="0123456789abcdef", fingerprint=fingerprint,
        machine="m", pytest_version="9", plugin_version="1", exit_status=0,
        invocations=(
            Invocation(
                test="t.py::test_chat", measure="1", config=config, backend="fake",
                engine_version="1", model="m", quantization=None, number=0, wall_s=1,
                conditions={},
                values=(
                    Value(
                        metric="decode_tps", unit="tok/s", median=value, low=value, high=value,
                        n=10, samples=(),
                    ),
                ),
            ),
        ),
        verdicts=(),
    )  # fmt: skip


def test_the_history_knows_a_pair_without_a_baseline(url: str) -> None:
    with past_in(url) as past:
        found = past(DECODE, DECODE.value)
    assert [(each.date, each.value) for each in found] == [
        ("2026-11-01T12:00", 200.0),
        ("2026-11-04T12:00", 192.0),
    ], "of this machine and configuration, oldest first, this run left out"
    assert found[0].commit == "0123456789ab"


def test_this_run_is_left_out_by_the_median_that_is_stored(tmp_path: Path) -> None:
    samples = (180.0, 182.0, 186.0, 190.0)
    middle = statistics.median(samples)
    of_logs = math.exp(statistics.median(map(math.log, samples)))
    assert of_logs != middle, "of an even number the two medians differ"
    with History.open(f"sqlite:///{tmp_path / 'h.db'}") as history:
        history.record(_session("one", NOON, "here", "fake", 200.0))
        history.record(_session("this", NOON, "here", "fake", middle))
    with past_in(f"sqlite:///{tmp_path / 'h.db'}") as past:
        found = past(msgspec.structs.replace(DECODE, value=of_logs), middle)
    assert [each.value for each in found] == [200.0]


def test_of_sessions_that_measured_the_same_only_this_one_is_left_out(tmp_path: Path) -> None:
    with History.open(f"sqlite:///{tmp_path / 'h.db'}") as history:
        for day in range(3):
            at = NOON + datetime.timedelta(days=day)
            history.record(_session(f"day {day}", at, "here", "fake", 1.25))
    with past_in(f"sqlite:///{tmp_path / 'h.db'}") as past:
        found = past(DECODE, 1.25)
    assert [each.date for each in found] == ["2026-11-01T12:00", "2026-11-02T12:00"]


def test_what_the_result_holds_goes_before_the_history(url: str) -> None:
    with past_in(url) as past:
        assert past(with_past(*TWO), 184) == TWO
    assert kept(with_past(*TWO), 184) == TWO


def test_a_history_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("no database")
    with pytest.raises(HistoryError), past_in(f"sqlite:///{tmp_path / 'no.db'}") as past:
        past(DECODE, 184)


def test_the_diamond_is_what_was_judged() -> None:
    assert math.isclose(DECODE.value, 184)
