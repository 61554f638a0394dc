"""Is a URL that leads nowhere told with an example, and its password never?"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sqlalchemy

from pytest_llmperf.history import History, HistoryError
from tests.unit.history import url_of


@pytest.mark.parametrize(
    "url", ["", "history.sqlite3", "/var/history.sqlite3", "postgresql://u@h:port/db"]
)
def test_what_is_no_url_is_told_with_an_example(url: str) -> None:
    with pytest.raises(HistoryError, match=r"sqlite:///folder/history\.sqlite3"):
        History.open(url)


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for url in (
        "postgresql+psycopg://ada:geheim@server/db",
        "postgresql+psycopg://server/db?user=ada&password=geheim",
        "postgresql+psycopg//ada:geheim@server/db",
        "postgresql+psycopg//ada:ge/geheim@server/db?password=geheim",
        "postgresql+psycopg://ada:geheim@server:port/db",
        "nonesuch://ada:geheim@server/db",
        "sqlite://ada:geheim@server/history.sqlite3",
    ):
        with pytest.raises(HistoryError) as caught:
            History.open(url)
        assert "server" in str(caught.value)
        assert "geheim" not in str(caught.value)


def test_a_missing_driver_and_an_unknown_database_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(HistoryError, match=r"driver is missing: .*psycopg.*pip install"):
        History.open("postgresql+psycopg://server/db")
    with pytest.raises(HistoryError, match="knows no database 'nonesuch'"):
        History.open("nonesuch://server/db")


@pytest.mark.parametrize(
    "option",
    [
        "timeout=long",
        pytest.param(
            "nonsense=1",
            marks=pytest.mark.skipif(
                sqlalchemy.__version__ < "2.1", reason="older SQLAlchemy ignores it and is silent"
            ),
        ),
    ],
)
def test_an_option_that_the_driver_does_not_take_is_told(tmp_path: Path, option: str) -> None:
    with pytest.raises(HistoryError, match=r"history\.sqlite3\?.*an option in the URL"):
        History.open(f"{url_of(tmp_path / 'history.sqlite3')}?{option}")


def test_a_history_in_memory_would_remember_nothing() -> None:
    with pytest.raises(HistoryError, match=r"write-ahead log .*'memory'"):
        History.open("sqlite://")


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path / "file" / "x")
    with pytest.raises(HistoryError, match=r"history\.sqlite3: cannot make its folder.*--llmperf"):
        History.open()
