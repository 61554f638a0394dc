"""Is a history that cannot be used told in one error, with its place, the reason and a remedy?"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from pytest_llmperf.history import Acceptance, History, HistoryError
from tests.unit.history import NOON, invocation, judged, session, session_of, url_of, value

ROOT = Path(__file__).parents[3]
NAN, INFINITY = float("nan"), float("inf")
NOBODY = 65534

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("holds", flush=True)
sys.stdin.readline()
"""

WRITER = """
import sys
from pytest_llmperf.history import History
from tests.unit.history import session_of
_, url, name, count = sys.argv
sys.stdin.readline()
for number in range(int(count)):
    with History.open(url) as history:
        history.record(session_of(5, f"{name}-{number}"))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


@pytest.fixture
def history(file: Path) -> Iterator[History]:
    with History.open(url_of(file), patience_s=0.1) as history:
        yield history


def ids(history: History) -> list[str]:
    return [each.id for each in history.sessions()]


def execute(file: Path, *statements: str) -> None:
    connection = sqlite3.connect(file)
    try:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


@contextlib.contextmanager
def program(source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@contextlib.contextmanager
def fails(file: Path, *parts: str) -> Iterator[None]:
    """The one kind of error, naming the place and each of ``parts``."""
    with pytest.raises(HistoryError) as caught:
        yield
    message = str(caught.value)
    assert message.startswith(f"history sqlite:///{file}: cannot ")
    for part in parts:
        assert part in message


@contextlib.contextmanager
def without_root_s_rights() -> Iterator[None]:
    """Root may write anywhere; what is refused to others has to be seen by another user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that any user may enter; those of ``tmp_path`` are its owner's alone."""
    with tempfile.TemporaryDirectory(prefix="llmperf-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_database_locked_by_another_process_is_waited_for_and_then_told(
    history: History, file: Path
) -> None:
    history.record(session("first"))
    with program(HOLDER, file) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        with fails(file, "record session second", "locked", "Another process", "0.1 s"):
            history.record(session("second"))
        assert ids(history) == ["first"]  # whoever reads does not wait
        with History.open(url_of(file), patience_s=0.1) as other:
            assert ids(other) == ["first"]
        holder.communicate("go\n")
    history.record(session("third"))
    assert ids(history) == ["third", "first"]


def test_an_empty_file_locked_by_another_process_is_told(file: Path) -> None:
    with program(HOLDER, file) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        with fails(file, "locked", "Another process"):
            History.open(url_of(file), patience_s=0.1)


def test_a_read_only_file_can_be_read_and_says_why_it_cannot_be_written(
    open_folder: Path,
) -> None:
    file = open_folder / "history.sqlite3"
    with History.open(url_of(file)) as history:
        history.record(session("first"))
    file.chmod(0o444)
    open_folder.chmod(0o777)
    with without_root_s_rights(), History.open(url_of(file)) as history:
        assert ids(history) == ["first"]
        with fails(file, "record session second", "readonly", "writable", "--llmperf-history"):
            history.record(session("second"))


@pytest.mark.parametrize(
    ("exists", "reason"), [(False, "unable to open database file"), (True, "readonly database")]
)
def test_a_read_only_folder_is_told(open_folder: Path, exists: bool, reason: str) -> None:
    file = open_folder / "history.sqlite3"
    if exists:
        History.open(url_of(file)).close()
    open_folder.chmod(0o555)
    with without_root_s_rights(), fails(file, reason, "folder", "--llmperf-history"):
        History.open(url_of(file))


def test_a_missing_folder_and_a_folder_instead_of_a_file_are_told(tmp_path: Path) -> None:
    for place in (tmp_path / "missing" / "history.sqlite3", tmp_path):
        with fails(place, "unable to open database file", "Let its folder exist"):
            History.open(url_of(place))


def test_a_full_disk_loses_the_session_and_nothing_else(history: History, file: Path) -> None:
    history.record(session("first"))

    def make_small(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count=40")

    event.listen(Engine, "connect", make_small)
    try:
        with History.open(url_of(file)) as full:
            with fails(file, "record session large", "full", "Make room", "history prune"):
                full.record(session_of(200, "large"))
            assert ids(full) == ["first"]
            full.record(session("small"))
    finally:
        event.remove(Engine, "connect", make_small)
    history.record(session_of(200, "large"))
    assert ids(history) == ["large", "small", "first"]


def test_what_is_no_database_is_left_alone(file: Path) -> None:
    file.write_text("a letter to a friend\n" * 100)
    with fails(file, "not a database", "Move the file away"):
        History.open(url_of(file))
    assert file.read_text() == "a letter to a friend\n" * 100


def test_a_damaged_database_is_told(history: History, file: Path) -> None:
    history.record(session_of(50, "first"))
    history.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    file.write_bytes(content)
    with fails(file, "malformed", "never baselines"):
        History.open(url_of(file))


@pytest.mark.parametrize("statement", ["CREATE TABLE letter (text)", "CREATE TABLE meta (name)"])
def test_a_database_of_something_else_is_left_alone(file: Path, statement: str) -> None:
    execute(file, statement)
    before = file.read_bytes()
    with fails(file, "holds something else", statement.split()[2]):
        History.open(url_of(file))
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "found", "remedy"),
    [
        ("UPDATE meta SET schema_version = 2", "history 2,", "Upgrade pytest-llmperf"),
        ("UPDATE meta SET schema_version = 0", "history 0,", "Move it away"),
        ("UPDATE meta SET schema_version = 'one'", "history one,", "Move it away"),
        ("UPDATE meta SET format = 'letters'", "letters 1,", "Move it away"),
        ("DELETE FROM meta", "none,", "Move it away"),
        ("INSERT INTO meta VALUES ('letters', 7)", "letters 7,", "Move it away"),
    ],
)
def test_an_unknown_schema_is_refused(
    history: History, file: Path, statement: str, found: str, remedy: str
) -> None:
    history.close()
    execute(file, statement)
    with fails(file, found, remedy, "knows pytest-llmperf-history 1 only"):
        History.open(url_of(file))


def test_rows_that_somebody_wrote_by_hand_are_told(history: History, file: Path) -> None:
    history.record(session())
    for statement, part in (
        ("UPDATE verdict SET verdict = 'FINE'", "FINE"),
        ("UPDATE value SET median = 'much'", "median"),
        ("UPDATE session SET started_at = 'yesterday'", "yesterday"),
    ):
        execute(file, statement)
        with fails(file, "read it", part):
            history.latest(invocation().test, "measure", "decode_tps")


BAD_NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "median": ({"invocations": (invocation(median=NAN),)}, "decode_tps of tests/"),
    "sample": (
        {"invocations": (invocation(values=(value(), value("prefill_tps", INFINITY))),)},
        "prefill_tps of tests/",
    ),
    "wall": ({"invocations": (invocation(wall_s=NAN),)}, "wall_s of tests/"),
    "session": ({"wall_s": NAN}, "wall_s of the session is nan"),
    "verdict": ({"verdicts": (judged(effect=NAN),)}, "verdict on decode_tps of tests/"),
}


@pytest.mark.parametrize("place", BAD_NUMBERS)
def test_what_is_no_number_is_refused_by_name(history: History, file: Path, place: str) -> None:
    facts, name = BAD_NUMBERS[place]
    with fails(file, "record session bad", name, "Leave out"):
        history.record(session("bad", **facts))
    assert ids(history) == []


def test_an_acceptance_of_no_number_is_refused_by_name(history: History, file: Path) -> None:
    accepted = Acceptance(
        at=NOON,
        fingerprint="x86_64-2c",
        module="tests/test_speed.py",
        test=invocation().test,
        measure="measure",
        metric="decode_tps",
        config="c0ffee",
        old=50.0,
        new=NAN,
        reason="why not",
        by="ada",
        commit=None,
    )
    with fails(file, "the new decode_tps of tests/", "nan"):
        history.accept(accepted)
    assert history.acceptances() == []


@pytest.mark.parametrize(
    ("facts", "part"),
    [
        ({"started_at": datetime.datetime(2026, 3, 4)}, "no time zone"),
        ({"machine": "\udcff"}, "surrogates"),
        ({"exit_status": 2**80}, "too large"),
        ({"invocations": (invocation(conditions={"what": object()}),)}, "object"),
        ({"invocations": (invocation(values=(value(), value())),)}, "UNIQUE"),
    ],
)
def test_facts_that_no_column_holds_are_refused_whole(
    history: History, file: Path, facts: dict[str, Any], part: str
) -> None:
    with fails(file, "record session bad", part):
        history.record(session("bad", **facts))
    assert ids(history) == []


def test_a_session_is_recorded_once(history: History, file: Path) -> None:
    history.record(session("first"))
    with fails(file, "record session first", "session.id", "recorded once"):
        history.record(session_of(3, "first"))
    assert ids(history) == ["first"]


def test_a_time_without_a_zone_prunes_nothing(history: History, file: Path) -> None:
    history.record(session("first"))
    with fails(file, "prune it", "no time zone"):
        history.prune(datetime.datetime(2100, 1, 1))
    assert ids(history) == ["first"]


def test_processes_that_open_and_write_at_once_all_get_through(file: Path) -> None:
    count = 5
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(program(WRITER, url_of(file), name, count)) for name in "abc"
        ]
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with History.open(url_of(file)) as history:
        assert sorted(ids(history)) == [f"{name}-{i}" for name in "abc" for i in range(count)]
