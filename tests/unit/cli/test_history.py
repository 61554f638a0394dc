"""Does ``pytest-llmperf history`` show and forget what earlier runs left?"""

from __future__ import annotations

import datetime
import io
import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pytest_llmperf import cli
from pytest_llmperf.gate import Verdict
from pytest_llmperf.history import History
from tests.unit.cli.baselines import unfolded
from tests.unit.history import NOON, invocation, judged, session, url_of, value

CHAT = "tests/test_speed.py::test_chat[0]"
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Five sessions of one test; the last is slow and red, on a second machine."""
    place = url_of(tmp_path / "history.sqlite3")
    speeds = [50.0, 51.0, 50.5, 50.0, 40.0]
    with History.open(place) as history:
        for number, speed in enumerate(speeds):
            verdict = Verdict.REGRESSED if speed == 40 else Verdict.PASSED
            history.record(
                session(
                    f"s{number}",
                    started_at=NOON + datetime.timedelta(days=number),
                    fingerprint="laptop" if speed == 40 else "x86_64-2c",
                    commit=None if number == 0 else f"c{number}",
                    exit_status=int(speed == 40),
                    invocations=(invocation(median=speed),),
                    verdicts=(judged(None, verdict), judged(verdict=verdict)),
                )
            )
    return place


@pytest.fixture
def ask(url: str, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Exit code, output and complaints, the latter unfolded, of one command."""

    def asked(command: str, *arguments: str) -> tuple[int, str, str]:
        code = cli.main(["history", command, "--url", url, *arguments])
        told = capsys.readouterr()
        return code, told.out, unfolded(told.err)

    return asked


def test_sessions_are_listed_newest_first_with_their_verdicts(ask: Ask) -> None:
    code, out, _ = ask("list")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "laptop"
    assert lines[1] == "  2026-03-08 12:00  c4            exit 1  1 REGRESSED"
    assert lines[2] == "x86_64-2c"
    assert lines[-1] == "  2026-03-04 12:00  –             exit 0  1 PASSED"
    assert len(lines) == 7


def test_a_list_has_a_limit(ask: Ask) -> None:
    _, out, _ = ask("list", "--limit", "2")
    assert [line.split()[2] for line in out.splitlines() if line[0] == " "] == ["c4", "c3"]


def test_the_list_as_json(ask: Ask) -> None:
    _, out, _ = ask("list", "--json")
    first = json.loads(out)["sessions"][0]
    assert (first["id"], first["verdicts"]) == ("s4", {"REGRESSED": 1})
    assert first["started_at"] == "2026-03-08T12:00:00Z"


def test_values_are_drawn_by_machine_and_marked_by_verdict(ask: Ask) -> None:
    code, out, _ = ask("show", CHAT)
    assert code == 0
    slow, usual = out.split("\n\n" + CHAT)
    assert ("▼" in slow, "▼" in usual) == (True, False)
    assert "▼ REGRESSED" in slow
    assert "latest 40.0 tok/s, engine 0.3.36, commit c4" in slow
    axis = [line for line in usual.splitlines() if "┤" in line]
    assert axis[0].startswith("51.0 ┤")
    assert axis[-1].startswith("50.0 ┤")
    assert sum(line.count("●") for line in axis) == 4
    assert "2026-03-04 … 2026-03-07" in usual


def test_a_part_of_the_name_is_enough(ask: Ask) -> None:
    assert ask("show", "chat") == ask("show", CHAT)


def test_the_whole_name_means_this_test_alone(url: str, ask: Ask) -> None:
    longer = CHAT + "[long]"
    with History.open(url) as history:
        history.record(session("more", invocations=(invocation(test=longer),)))
    assert longer not in ask("show", CHAT)[1]
    assert longer in ask("show", "test_chat")[1]


def test_another_metric_and_json(ask: Ask) -> None:
    _, out, _ = ask("show", CHAT, "--metric", "prefill_tps", "--json", "--limit", "3")
    told = json.loads(out)
    assert told["metric"] == "prefill_tps"
    assert [point["median"] for point in told["series"][0]["points"]] == [40.0, 50.0, 50.5]


def test_named_measurements_and_configurations_stand_apart(url: str, ask: Ask) -> None:
    other = (invocation(measure="warm"), invocation(measure="warm", test="t.py::x", config="q8"))
    with History.open(url) as history:
        history.record(session("more", invocations=other))
    _, out, _ = ask("show", "test_chat")
    assert out.count("┤") == 3 * 8
    assert "decode · warm · c0ffee" in out


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["show", "test_chatt"], 2, f"no test has 'test_chatt' in its name; near: {CHAT}"),
        (["show", CHAT, "--metric", "ttft"], 3, f"ttft was not measured by {CHAT}"),
    ],
)
def test_what_is_not_there_is_said(
    ask: Ask, arguments: Sequence[str], exit_code: int, said: str
) -> None:
    code, out, err = ask(*arguments)
    assert (code, out) == (exit_code, "")
    assert err == f"pytest-llmperf history show: {said}"


def test_sessions_before_a_date_are_forgotten(ask: Ask) -> None:
    code, out, _ = ask("prune", "--before", "2026-03-06")
    assert (code, out) == (0, "forgot 2 sessions that began before 2026-03-06 00:00 UTC\n")
    assert len(json.loads(ask("list", "--json")[1])["sessions"]) == 3
    assert json.loads(ask("prune", "--before", "2026-03-07T00:00:00+02:00", "--json")[1]) == {
        "forgotten": 1,
        "before": "2026-03-07T00:00:00+02:00",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["prune"],
        ["prune", "--before", "yesterday"],
        ["list", "--limit", "0"],
        ["show", "x", "--metric", "speed"],
        [],
    ],
)
def test_a_bad_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["history", *arguments])
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["list"], ["show", "chat"]])
def test_an_empty_history_is_nothing(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["history", *command, "--url", url_of(tmp_path / "new.sqlite3")]) == 3
    assert "yet" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["list"], ["show", "x"], ["prune", "--before", "2026-01-01"]])
@pytest.mark.parametrize("given", [True, False])
def test_looking_at_a_history_that_is_not_there_makes_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    given: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("LLMPERF_HISTORY", raising=False)
    url = ["--url", url_of(tmp_path / "none.db")] if given else []
    assert cli.main(["history", *command, *url]) == 3
    name = "none.db" if given else "pytest-llmperf/history.sqlite3"
    told = unfolded(capsys.readouterr().err)
    assert f"there is no sqlite:///{tmp_path}/{name} yet" in told
    assert not list(tmp_path.iterdir())


def test_a_foreign_database_is_an_error_of_the_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE invoices (sum REAL)")
    connection.close()
    assert cli.main(["history", "list", "--url", url_of(path)]) == 4
    assert "it holds something else (invoices)" in capsys.readouterr().err


def test_the_address_may_come_from_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMPERF_HISTORY", url)
    assert cli.main(["history", "list"]) == 0
    monkeypatch.setenv("LLMPERF_HISTORY", "off")
    assert cli.main(["history", "list"]) == 2
    assert "the history is off" in capsys.readouterr().err


def test_it_fits_a_terminal_of_80_columns_and_one_without_unicode(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = tuple(judged(None, verdict) for verdict in Verdict)
    with History.open(url) as history:
        history.record(session("all", verdicts=every, invocations=(
            invocation(test=CHAT + "x" * 90, values=(value(),)),)))  # fmt: skip
    sink = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", sink)
    assert cli.main(["history", "list", "--url", url]) == 0
    assert cli.main(["history", "show", "test", "--url", url]) == 0
    sink.seek(0)
    lines = sink.read().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.count("|") for line in lines)
