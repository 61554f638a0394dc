"""Is every run remembered, whatever became of it, and is a history that fails only told?"""

from __future__ import annotations

import sqlite3

import pytest

from pytest_llmperf.history import History
from tests.plugin.conftest import Run

TEST = """
@pytest.mark.perf(min_tps=50)
def test_chat(load_model, measure):
    measure(load(load_model))

@pytest.mark.perf(min_tps=5000)
def test_fast(load_model, measure):
    measure(load(load_model))
"""


def test_a_run_is_remembered_red_or_green(llmperf: Run, pytester: pytest.Pytester) -> None:
    url = f"sqlite:///{pytester.path}/history.sqlite3"
    for _ in range(2):
        llmperf(TEST, f"--llmperf-history={url}").assert_outcomes(passed=1, failed=1)
    with History.open(url) as history:
        assert [session.exit_status for session in history.sessions()] == [1, 1]
        points = history.latest("test_it.py::test_fast", "1", "decode_tps")
    assert [point.verdict for point in points] == ["OVER_BUDGET"] * 2


def test_under_xdist_one_session_is_remembered(llmperf: Run, pytester: pytest.Pytester) -> None:
    url = f"sqlite:///{pytester.path}/history.sqlite3"
    llmperf(TEST, f"--llmperf-history={url}", "-n", "2").assert_outcomes(passed=1, failed=1)
    with History.open(url) as history:
        assert len(history.sessions()) == 1


def test_without_being_told_the_users_state_directory_has_it(
    llmperf: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMPERF_HISTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    llmperf(TEST).assert_outcomes(passed=1, failed=1)
    path = pytester.path / "state/pytest-llmperf/history.sqlite3"
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from session").fetchone() == (1,)


def test_what_cannot_be_remembered_is_told_and_changes_nothing(llmperf: Run) -> None:
    result = llmperf(TEST, "--llmperf-history=sqlite:////no/such/folder/h.sqlite3", "-k", "chat")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["note: history: sqlite:////no/such/folder/h.sqlite3: cannot *"])


def test_nothing_measured_is_nothing_to_remember(llmperf: Run, pytester: pytest.Pytester) -> None:
    url = f"sqlite:///{pytester.path}/history.sqlite3"
    llmperf("def test_other(): pass", f"--llmperf-history={url}")
    assert not (pytester.path / "history.sqlite3").exists()
