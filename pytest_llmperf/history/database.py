"""How is the history's database opened, and what does it mean when it cannot be used?"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import platformdirs
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    IntegrityError,
    NoSuchModuleError,
    SAWarning,
    SQLAlchemyError,
    StatementError,
)

from pytest_llmperf.history.schema import FORMAT, VERSION, meta, metadata

PATIENCE_S = 5.0
"""How long a write waits for another process to finish its own; one takes milliseconds."""

_UNFIT = (ValueError, TypeError, OverflowError, msgspec.MsgspecError)
"""Text that is no UTF-8, integers beyond 64 bits, what JSON cannot hold; rows that were edited by
hand; options in the URL that the driver does not take."""

_SECRETS = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)
_ELSEWHERE = "or name another place with --llmperf-history=URL"
_REMEDIES = {
    "SQLITE_BUSY": "Another process holds it, and {patience_s:g} s were waited. Try again later.",
    "SQLITE_READONLY": f"Make the file and its folder writable for this user, {_ELSEWHERE}.",
    "SQLITE_CANTOPEN": f"Let its folder exist and be writable for this user, {_ELSEWHERE}.",
    "SQLITE_FULL": f"Make room, drop sessions (pytest-llmperf history prune), {_ELSEWHERE}.",
    "SQLITE_NOTADB": f"Move the file away, {_ELSEWHERE}.",
    "SQLITE_CORRUPT": "Move the file away: that loses trends, never baselines.",
    "SQLITE_IOERR": f"Check its disk, {_ELSEWHERE}.",
}
"""By the beginning of SQLite's name for the error."""
_TWICE = "It is there already: a session is recorded once, and holds each metric once."
_CORRECT = "Correct what it names: the row, what was to be written, or an option in the URL."
_OTHERWISE = f"Check that it can be reached and that this user may write there, {_ELSEWHERE}."

_CREATION_LOCK = 0x6C6C6D70
"""PostgreSQL's advisory lock under which the tables are made; any number that others do not use."""


class HistoryError(Exception):
    """The history cannot be used. Says which (its password hidden), for what, why, what to do."""


class Database:
    """An open database that holds the tables of this version."""

    def __init__(self, engine: Engine, patience_s: float) -> None:
        self._engine = engine
        self._patience_s = patience_s
        self.name = shown(engine.url)

    @classmethod
    def open(cls, url: str | None = None, *, patience_s: float = PATIENCE_S) -> Self:
        """Open it, and make the tables if it is empty. Raises HistoryError."""
        address = _default_url() if url is None else _read_url(url)
        database = cls(_engine(address, patience_s), patience_s)
        try:
            database._prepare()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Give its files and connections back."""
        self._engine.dispose()

    @contextmanager
    def transaction(self, doing: str) -> Iterator[Connection]:
        """All of it is written, or nothing. Raises HistoryError for whatever goes wrong inside."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, *_UNFIT) as error:
            why = (error.orig if isinstance(error, StatementError) else None) or error
            reason = " ".join(str(why).split()).rstrip(".?")
            raise self.refusal(doing, f"{reason}. {self._remedy(error, why)}") from error

    def _remedy(self, error: Exception, why: BaseException) -> str:
        code = getattr(why, "sqlite_errorname", "")
        for begin, remedy in _REMEDIES.items():
            if code.startswith(begin):
                return remedy.format(patience_s=self._patience_s)
        if isinstance(error, IntegrityError):
            return _TWICE
        return _CORRECT if isinstance(error, DataError) or isinstance(why, _UNFIT) else _OTHERWISE

    def refusal(self, doing: str, reason: str) -> HistoryError:
        """What could not be done here, with a reason that says what to do."""
        return HistoryError(
            f"history {self.name}: cannot {doing}: {_without_secrets(reason, self._engine.url)}"
        )

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _prepare(self) -> None:
        with self.transaction("open it") as connection:
            is_empty = self._is_empty(connection)
            if self._is_sqlite:
                self._log_ahead(connection)
        if is_empty:
            self._create()

    def _is_empty(self, connection: Connection) -> bool:
        """Whether the tables are still to be made. Refuses what this version cannot use."""
        inspector = inspect(connection)
        tables = inspector.get_table_names()
        if not tables:
            return True
        if meta.name in tables:
            columns = {column["name"] for column in inspector.get_columns(meta.name)}
            if columns == set(meta.columns.keys()):
                self._check_version(connection)
                return False
        named = ", ".join(sorted(tables)[:3])
        reason = f"it holds something else ({named}). Name a database for the history alone."
        raise self.refusal("use it", reason)

    def _check_version(self, connection: Connection) -> None:
        rows = [tuple(row) for row in connection.execute(select(meta))]
        if rows == [(FORMAT, VERSION)]:
            return
        found = ", ".join(f"{name} {version}" for name, version in rows) or "none"
        reason = f"its schema is {found}, and this pytest-llmperf knows {FORMAT} {VERSION} only"
        # SQLite keeps text in a column of integers.
        newer = [name for name, version in rows if isinstance(version, int) and version > VERSION]
        remedy = "Move it away: that loses trends, never baselines"
        if len(rows) == 1 and newer == [FORMAT]:
            remedy = "Upgrade pytest-llmperf"
        raise self.refusal("use it", f"{reason}. {remedy}, {_ELSEWHERE}.")

    def _log_ahead(self, connection: Connection) -> None:
        """Let readers and one writer work at once. Not before it is known to be ours."""
        mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
        if mode != "wal":
            reason = (
                f"it cannot keep a write-ahead log (its journal is {mode!r}). Name a file on a "
                "local disk."
            )
            raise self.refusal("use it", reason)

    def _create(self) -> None:
        with self.transaction("make its tables") as connection:
            if self._is_sqlite:
                # Python begins a transaction before rows are changed, not before tables are.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})")
            if self._is_empty(connection):  # another process may have been faster
                metadata.create_all(connection)
                connection.execute(insert(meta).values(format=FORMAT, schema_version=VERSION))


def check_url(text: str) -> None:
    """Raises HistoryError for what is no URL, or that of a database nobody here knows.

    Connects to nothing, and needs no driver.
    """
    address = _read_url(text)
    try:
        address.get_dialect()
    except NoSuchModuleError as error:
        raise _unknown(address) from error


def missing(url: str | None = None) -> str | None:
    """Which file does not exist, and would be made by opening it; None: there is a database.

    Raises HistoryError for what is no URL.
    """
    address = URL.create("sqlite", database=str(_default_path())) if url is None else _read_url(url)
    path = address.database or ""
    if address.get_backend_name() != "sqlite" or path in {"", ":memory:"}:
        return None
    return None if path.startswith("file:") or Path(path).exists() else shown(address)


def shown(url: URL) -> str:
    """The address without what is secret in it."""
    hidden = dict.fromkeys(_secret_options(url), "hidden")
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _secret_options(url: URL) -> list[str]:
    return [key for key in url.query if _SECRETS.search(key)]


def _without_secrets(words: str, url: URL) -> str:
    """What a driver says may hold what it was given."""
    for secret in (url.password, *(url.query[key] for key in _secret_options(url))):
        if isinstance(secret, str) and secret:
            words = words.replace(secret, "***")
    return words


def _default_path() -> Path:
    return platformdirs.user_state_path("pytest-llmperf", appauthor=False) / "history.sqlite3"


def _default_url() -> URL:
    path = _default_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(
            f"history {path}: cannot make its folder: {error}. Make it writable for this user, "
            f"{_ELSEWHERE}."
        ) from error
    return URL.create("sqlite", database=str(path))


def _read_url(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        # Not chained: the parser's own words may hold the password.
        rest = text.rpartition("@")[2].partition("?")[0]
        hidden = rest if rest == text else f"…{rest}"
        raise HistoryError(
            f"history {hidden!r}: this is no database URL. A file is named like "
            "sqlite:///folder/history.sqlite3 (four slashes before an absolute path)."
        ) from None


def _engine(address: URL, patience_s: float) -> Engine:
    name = shown(address)
    options: dict[str, Any] = {"pool_pre_ping": True}  # a server forgets whom it has not heard
    if address.get_backend_name() == "sqlite":
        # A write takes its lock at the beginning: one that reads first could not wait for it.
        options["connect_args"] = {"timeout": patience_s, "isolation_level": "IMMEDIATE"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SAWarning)  # an option that would be ignored
            engine = create_engine(address, **options)
    except NoSuchModuleError as error:
        raise _unknown(address) from error
    except (ArgumentError, SAWarning, *_UNFIT) as error:
        words = _without_secrets(" ".join(str(error).split()), address)
        raise HistoryError(f"history {name}: {words}. {_CORRECT}") from error
    except ImportError as error:
        raise HistoryError(
            f"history {name}: its driver is missing: {error}. Install it (for PostgreSQL: "
            f"pip install 'psycopg[binary]'), {_ELSEWHERE}."
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up)
    return engine


def _unknown(address: URL) -> HistoryError:
    return HistoryError(
        f"history {shown(address)}: SQLAlchemy knows no database {address.drivername!r}. Known "
        "are sqlite, postgresql and those whose SQLAlchemy dialect is installed."
    )


def _set_up(connection: Any, _: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")
    # What was reported as written outlives a power cut as well.
    connection.execute("PRAGMA synchronous=FULL")
