"""Does a session come back as it was recorded, and only where it is asked for?"""

from __future__ import annotations

import datetime
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_llmperf.gate import Verdict
from pytest_llmperf.history import Acceptance, History, SessionFacts, Value
from pytest_llmperf.measure.quantity import summarize
from tests.unit.history import METRICS, NOON, SAMPLES, invocation, judged, session, url_of

TEST = invocation().test
DAY = datetime.timedelta(days=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


@pytest.fixture
def history(file: Path) -> Iterator[History]:
    with History.open(url_of(file)) as history:
        yield history


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def acceptance(**others: Any) -> Acceptance:
    facts: dict[str, Any] = {
        "at": NOON,
        "fingerprint": "x86_64-2c",
        "module": "tests/test_speed.py",
        "test": TEST,
        "measure": "measure",
        "metric": "decode_tps",
        "config": "c0ffee",
        "old": 50.0,
        "new": 45.0,
        "reason": "the safer kernel",
        "by": "ada",
        "commit": None,
    }
    return Acceptance(**facts | others)


def test_facts_come_back_in_utc_the_newest_session_first(file: Path) -> None:
    east = datetime.timezone(datetime.timedelta(hours=9))
    first = session("first")
    second = session("second", started_at=NOON.astimezone(east), commit=None)
    with History.open(url_of(file)) as history:
        history.record(first)
        history.record(second)
    with History.open(url_of(file)) as again:
        found = again.sessions()
        assert again.sessions(limit=1) == found[:1]
    names = SessionFacts.__struct_fields__
    assert [msgspec.structs.asdict(each) for each in found] == [
        {name: getattr(each, name) for name in names} for each in (second, first)
    ]
    assert found[0].started_at.tzinfo is datetime.UTC


def test_a_point_says_what_when_where_and_how_it_was_judged(history: History) -> None:
    looks = (invocation(0, 47.0), invocation(1, 49.0), invocation(2, 48.0))
    regressed = judged(verdict=Verdict.REGRESSED)
    history.record(session("first"))
    history.record(session("second", invocations=looks, verdicts=(regressed,)))
    point, before = history.latest(TEST, "measure", "decode_tps")
    assert (point.session, point.started_at, point.commit) == ("second", NOON, "0123abc")
    assert (point.fingerprint, point.config) == ("x86_64-2c", "c0ffee")
    assert (point.engine_version, point.unit) == ("0.3.36", "tok/s")
    assert (point.low, point.median, point.high, point.n) == (46.0, 47.0, 48.0, SAMPLES)
    assert point.second_looks == (49.0, 48.0)
    assert point.verdict is Verdict.REGRESSED
    assert (before.session, before.median, before.second_looks) == ("first", 50.0, ())
    assert before.verdict is Verdict.PASSED


def test_a_metric_without_a_verdict_has_that_of_its_measurement(history: History) -> None:
    whole = judged(None, Verdict.OVER_BUDGET)
    history.record(session("first", verdicts=(judged(), whole)))
    history.record(session("second", verdicts=()))
    for metric, expected in (
        ("decode_tps", [None, Verdict.PASSED]),
        ("prefill_tps", [None, Verdict.OVER_BUDGET]),
    ):
        assert [each.verdict for each in history.latest(TEST, "measure", metric)] == expected


def test_only_what_was_asked_for_is_found(history: History) -> None:
    others = (
        invocation(median=1.0, test="tests/test_speed.py::test_chat[1]"),
        invocation(median=2.0, measure="long prompt"),
        invocation(),
    )
    history.record(session(invocations=others))
    (point,) = history.latest(TEST, "measure", "decode_tps")
    assert point.median == 50.0
    assert history.latest(TEST, "measure", "ram") == []
    assert history.latest("tests/test_speed.py", "measure", "decode_tps") == []


def test_the_limit_counts_sessions_that_have_the_metric(history: History) -> None:
    for number in range(6):
        looks = (invocation(0, 40.0 + number), invocation(1, 50.0 + number))
        history.record(session(f"s{number}", invocations=looks))
    history.record(session("s6", invocations=(invocation(values=()),)))
    points = history.latest(TEST, "measure", "decode_tps", limit=3)
    assert [each.session for each in points] == ["s5", "s4", "s3"]
    assert [each.second_looks for each in points] == [(55.0,), (54.0,), (53.0,)]


def test_a_test_that_was_run_again_counts_by_its_last_run(history: History) -> None:
    runs = (invocation(0, 40.0), invocation(1, 41.0), invocation(0, 50.0))
    verdicts = (judged(verdict=Verdict.REGRESSED), judged())
    history.record(session(invocations=runs, verdicts=verdicts))
    (point,) = history.latest(TEST, "measure", "decode_tps")
    assert (point.median, point.second_looks) == (50.0, ())
    assert point.verdict is Verdict.PASSED


def test_a_clock_that_was_set_back_changes_no_order(history: History) -> None:
    for number in range(3):
        history.record(session(f"s{number}", started_at=NOON - number * DAY))
    assert [each.id for each in history.sessions()] == ["s2", "s1", "s0"]
    points = history.latest(TEST, "measure", "decode_tps", limit=2)
    assert [each.session for each in points] == ["s2", "s1"]


def test_samples_conditions_and_reasons_are_kept(history: History, file: Path) -> None:
    history.record(session())
    kept = rows(file, "SELECT metric, value FROM sample ORDER BY metric, ordinal")
    assert kept == [
        (each.metric, sample) for each in invocation().values for sample in each.samples
    ]
    ((conditions,),) = rows(file, "SELECT conditions FROM invocation")
    assert msgspec.json.decode(conditions) == invocation().conditions
    assert rows(file, "SELECT verdict, effect, low, high, mde, reasons FROM verdict") == [
        ("PASSED", -0.01, -0.02, 0.01, 0.04, '["it is so"]')
    ]


def test_a_session_in_which_nothing_was_measured_is_kept(history: History) -> None:
    history.record(session(invocations=(), verdicts=()))
    assert [each.id for each in history.sessions()] == ["first"]


def test_pruning_forgets_old_sessions_with_all_that_is_theirs(history: History, file: Path) -> None:
    for number in range(4):
        history.record(session(f"s{number}", started_at=NOON + number * DAY))
    history.accept(acceptance())
    assert history.prune(NOON + 3 * DAY) == 3
    assert [each.id for each in history.sessions()] == ["s3"]
    counts = {
        table: rows(file, f"SELECT count(*) FROM {table}")[0][0]
        for table in ("session", "invocation", "value", "sample", "verdict", "acceptance")
    }
    assert counts == {
        "session": 1,
        "invocation": 1,
        "value": len(METRICS),
        "sample": len(METRICS) * SAMPLES,
        "verdict": 1,
        "acceptance": 1,
    }
    assert history.prune(NOON) == 0


def test_acceptances_come_back_the_newest_first(history: History) -> None:
    first, second = acceptance(), acceptance(old=None, at=NOON - DAY, commit="0123abc")
    history.accept(first)
    history.accept(second)
    assert history.acceptances() == [second, first]
    assert history.acceptances(limit=1) == [second]


def test_a_quantity_is_kept_with_its_samples_where_it_has_any() -> None:
    quantity = summarize([3.0, 1.0, 2.0], "ms")
    kept = Value.of("ttft", quantity)
    assert (kept.metric, kept.unit, kept.n, kept.samples) == ("ttft", "ms", 3, (3.0, 1.0, 2.0))
    assert (kept.low, kept.median, kept.high) == (1.5, 2.0, 2.5)
    assert Value.of("itl", summarize([1.0], "ms", keep=False)).samples == ()


@pytest.mark.skipif(sys.platform != "linux", reason="XDG folders")
def test_its_place_is_the_user_s_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new"))
    with History.open() as history:
        history.record(session())
        assert history.name == f"sqlite:///{tmp_path}/new/pytest-llmperf/history.sqlite3"
    assert rows(tmp_path / "new/pytest-llmperf/history.sqlite3", "SELECT id FROM session") == [
        ("first",)
    ]


def test_the_start_of_the_plugin_does_not_import_sqlalchemy() -> None:
    program = "import sys, pytest_llmperf.plugin; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
