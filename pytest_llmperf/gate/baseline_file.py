"""How do baselines lie on disk? One file of JSON Lines per test module and fingerprint.

After a line with schema and version, one line per acceptance and per session, sorted so that a
change of one test touches only its own lines in a diff. A line that says what it said before keeps
its bytes. A file that is missing holds no baselines; whatever else cannot be read is an error.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from filelock import FileLock, SoftFileLock, Timeout

from pytest_llmperf.gate.baseline import (
    Baseline,
    BaselineError,
    EntryRefused,
    EpochLine,
    Line,
    ModuleBaselines,
    PairKey,
    SessionLine,
)

SCHEMA = "pytest-llmperf baselines"
VERSION = 1
SUFFIX = ".jsonl"
LOCK = ".lock"

_RESTORE = "Take the file back from version control"
_RESOLVE = (
    "Keep the lines of both sides and delete the markers; where both accepted the same test, keep "
    "one side of it and accept again"
)
_MARKERS = (b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>")
_LEADING = ("kind", "key", "epoch", "session", "date")
"""What a reader of a diff looks for stands first in a line."""
_QUOTED = re.compile(r'[\x00-\x1f\x7f<>:"\\|?*%]|^\.|[. ]$')
"""What some file system forbids in a name, and the dot of files that are not baselines."""


class BrokenBaseline(BaselineError):
    """A file is there and cannot be read."""

    def __init__(self, path: Path, line: int | None, problem: str, remedy: str = _RESTORE) -> None:
        place = f"{path}:{line}" if line else str(path)
        super().__init__(f"{place}: {problem}. {remedy}")
        self.path = path
        self.line = line


class BaselineBusy(BaselineError):
    """Another run is writing, and did not end in time."""


class NotWritten(BaselineError):
    """A file cannot be written; what was there before is still there, whole."""


class Orphan(msgspec.Struct, frozen=True):
    """An entry whose test is gone."""

    module: str
    key: PairKey


class _Header(msgspec.Struct, frozen=True):
    schema: str
    version: int


_HEADERS = msgspec.json.Decoder(_Header)
_LINES = msgspec.json.Decoder(Line)


def parse(data: bytes, module: str, path: Path) -> ModuleBaselines:
    """Read a whole file; ``path`` is for messages. Raises BrokenBaseline."""
    lines = data.split(b"\n")
    _check_header(lines[0], path)
    found: dict[PairKey, dict[int | str, tuple[int, Line]]] = {}
    for number, raw in enumerate(lines[1:], 2):
        if not raw or raw.isspace():
            continue
        try:
            line = _LINES.decode(raw)
        except (ValueError, RecursionError) as error:
            is_last = number == len(lines)
            raise BrokenBaseline(path, number, *_diagnosis(raw, error, is_last)) from error
        key, name = _name(line)
        known = found.setdefault(key, {})
        if name in known:
            raise _doubled(path, number, line, known[name][0])
        known[name] = (number, line)
    pairs = {key: _baseline(key, list(known.values()), path) for key, known in found.items()}
    return ModuleBaselines(module, pairs)


def _baseline(key: PairKey, lines: list[tuple[int, Line]], path: Path) -> Baseline:
    """One pair of its numbered lines; within an epoch they keep the order of the file."""
    lines = sorted(lines, key=_epoch)
    epochs = tuple(line for _, line in lines if isinstance(line, EpochLine))
    accepted = {line.epoch for line in epochs}
    for number, line in lines:
        if line.epoch not in accepted:
            problem = f"no line accepts epoch {line.epoch} of {key.text}"
            raise BrokenBaseline(path, number, problem)
    return Baseline(key, epochs, tuple(line for _, line in lines if isinstance(line, SessionLine)))


def render(baselines: ModuleBaselines, previous: bytes = b"") -> bytes:
    """Write a whole file. ``previous`` is the valid one that it replaces, or nothing."""
    header, *lines = previous.split(b"\n")
    before = {
        _name(line): (line, raw) for raw in lines if raw.strip() for line in [_LINES.decode(raw)]
    }
    written = [header or msgspec.json.encode(_Header(SCHEMA, VERSION))]
    for key in sorted(baselines.pairs):
        for line in _in_order(baselines.pairs[key]):
            old, raw = before.get(_name(line), (None, b""))
            written.append(raw if old == line else _encoded(line))
    return b"\n".join(written) + b"\n"


def _epoch(numbered: tuple[int, Line]) -> int:
    return numbered[1].epoch


def _name(line: Line) -> tuple[PairKey, int | str]:
    return line.key, line.session if isinstance(line, SessionLine) else line.epoch


def _in_order(baseline: Baseline) -> Iterator[Line]:
    for epoch in baseline.epochs:
        yield epoch
        yield from (each for each in baseline.sessions if each.epoch == epoch.epoch)


def _encoded(line: Line) -> bytes:
    fields = msgspec.to_builtins(line)
    leading = {name: fields[name] for name in _LEADING if name in fields}
    return msgspec.json.encode(leading | fields)


def _check_header(raw: bytes, path: Path) -> None:
    if not raw.strip():
        raise BrokenBaseline(path, 1, "the file is empty, or its first line is")
    try:
        header = _HEADERS.decode(raw)
    except (ValueError, RecursionError) as error:
        raise BrokenBaseline(path, 1, *_diagnosis(raw, error, is_last=False)) from error
    if header.schema != SCHEMA:
        problem = f"its schema is {header.schema!r}, not {SCHEMA!r}"
        raise BrokenBaseline(path, 1, problem, "Move the file elsewhere: it holds no baselines")
    if header.version != VERSION:
        problem = f"its version is {header.version}, and this release reads {VERSION}"
        raise BrokenBaseline(path, 1, problem, "Update pytest-llmperf")


def _diagnosis(raw: bytes, error: Exception, is_last: bool) -> tuple[str, str]:
    """Problem and remedy of a line that does not read."""
    if raw.startswith(_MARKERS):
        return f"merge-conflict marker {raw[:7].decode()}", _RESOLVE
    if is_last:
        return f"the last line is cut off ({error})", _RESTORE
    return f"not a line of baselines: {error}", _RESTORE


def _doubled(path: Path, number: int, line: Line, first: int) -> BrokenBaseline:
    if isinstance(line, SessionLine):
        problem = f"session {line.session} of {line.key.text} stands in line {first} already"
        return BrokenBaseline(path, number, problem, "Delete one of the two lines")
    problem = f"epoch {line.epoch} of {line.key.text} was accepted in line {first} already"
    remedy = "Keep the lines of one acceptance with its sessions, and accept the other again"
    return BrokenBaseline(path, number, problem, remedy)


class BaselineStore:
    """The baselines of one fingerprint."""

    def __init__(self, root: Path, fingerprint: str, *, lock_timeout_s: float = 10.0) -> None:
        """Touches nothing yet."""
        self.folder = root / _quoted(fingerprint)
        self._lock_timeout_s = lock_timeout_s

    def path(self, module: str) -> Path:
        """Where the module's file is. Raises EntryRefused for a name that no module has."""
        *folders, name = module.split("/")
        if not all((*folders, name)):
            raise EntryRefused(f"{module!r} is not a module's path under the root folder")
        return self.folder.joinpath(*map(_quoted, folders), _quoted(name) + SUFFIX)

    def read(self, module: str) -> ModuleBaselines:
        """What is accepted for the module; empty without a file. Raises BrokenBaseline."""
        path = self.path(module)
        data = _contents(path)
        return ModuleBaselines(module) if data is None else parse(data, module, path)

    def update(self, module: str, changes: Iterable[Line]) -> ModuleBaselines:
        """Accept and record all of ``changes`` or nothing; what it comes to.

        Another process's entries are kept: the file is read again under the lock. Raises
        BrokenBaseline, EntryRefused, BaselineBusy or NotWritten.
        """
        lines = list(changes)
        return self._change(module, lambda before: before.with_lines(lines))

    def forget(self, module: str, keys: Collection[PairKey]) -> ModuleBaselines:
        """Remove pairs, and with the last one the file. Raises as ``update`` does."""
        return self._change(module, lambda before: before.without(keys))

    def modules(self) -> tuple[str, ...]:
        """Every module that has a file. Raises BrokenBaseline for a folder that cannot be read."""
        found = []
        for place, _, names in os.walk(self.folder, onerror=_refuse_folder):
            parts = Path(place).relative_to(self.folder).parts
            for name in names:
                if name.endswith(SUFFIX) and not name.startswith("."):
                    quoted = "/".join((*parts, name.removesuffix(SUFFIX)))
                    found.append(urllib.parse.unquote(quoted))
        return tuple(sorted(found))

    def orphans(self, known: Mapping[str, Collection[str]]) -> tuple[Orphan, ...]:
        """Entries whose test is gone, ``known`` holding the tests of each module.

        A module that is not in ``known`` counts as gone, so this asks for a complete collection.
        Raises BrokenBaseline.
        """
        return tuple(
            Orphan(module, key)
            for module in self.modules()
            for key in sorted(self.read(module).pairs)
            if key.test not in known.get(module, ())
        )

    def _change(
        self, module: str, decide: Callable[[ModuleBaselines], ModuleBaselines]
    ) -> ModuleBaselines:
        path = self.path(module)
        with self._locked():
            data = _contents(path)
            before = ModuleBaselines(module) if data is None else parse(data, module, path)
            after = decide(before)
            if after != before:
                _replace(path, render(after, data or b"") if after.pairs else None)
        return after

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.folder / LOCK
        lock = FileLock(path)
        try:
            _make_folder(self.folder)
            _hide_own_files(self.folder)
            lock.acquire(timeout=self._lock_timeout_s)
        except Timeout as error:
            raise BaselineBusy(
                f"{path}: another run has held this lock for {self._lock_timeout_s:g} s; nothing "
                "was changed. Wait for its end and repeat; a run that died holds no lock"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise _unwritable(path, error) from error
        try:
            if isinstance(lock, SoftFileLock):  # filelock changes its class where flock is missing
                raise _unwritable(path, "its file system does not support flock")
            yield
        finally:
            lock.release()


def fingerprints(root: Path) -> tuple[str, ...]:
    """Every fingerprint that has a folder under ``root``; none where there is no such folder.

    Raises BrokenBaseline for a folder that cannot be read.
    """
    try:
        folders = [each.name for each in root.iterdir() if each.is_dir()]
    except FileNotFoundError:
        return ()
    except OSError as error:
        _refuse_folder(error)
        raise
    return tuple(sorted(urllib.parse.unquote(each) for each in folders if each[0] != "."))


def write_lines(root: Path, changes: Mapping[tuple[str, str], Sequence[Line]]) -> None:
    """Update by fingerprint and module, each file whole or not at all. Raises BaselineError."""
    for (fingerprint, module), lines in changes.items():
        BaselineStore(root, fingerprint).update(module, lines)


def _quoted(name: str) -> str:
    return _QUOTED.sub(lambda match: f"%{ord(match[0]):02X}", name)


def _contents(path: Path) -> bytes | None:
    """The file's bytes; None if there is none. Raises BrokenBaseline."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise BrokenBaseline(path, None, "a link to a file that is not there") from error
        return None
    except OSError as error:
        remedy = "Make it a file that this user may read"
        raise BrokenBaseline(path, None, f"cannot be read: {error.strerror}", remedy) from error


def _refuse_folder(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise BrokenBaseline(
            Path(error.filename), None, f"cannot be read: {error.strerror}",
            "Make it a folder that this user may read",
        ) from error  # fmt: skip


def _replace(path: Path, data: bytes | None) -> None:
    """Put the data in the file's place, all or nothing; None removes it. Raises NotWritten."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        if data is None:
            path.unlink()
        else:
            _make_folder(path.parent)
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise _unwritable(path, error) from error


def _make_folder(folder: Path) -> None:
    """With its parents, each of which lasts through a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _hide_own_files(folder: Path) -> None:
    """The lock and what a killed run left are not to be committed, nor is the file that says so."""
    with suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
        file.write(".*\n")


def _sync_folder(folder: Path) -> None:
    """Make a rename last. Windows has no way to, and does without."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, reason: object) -> NotWritten:
    return NotWritten(
        f"{path}: cannot be written: {reason}. Nothing was changed; make room on the disk and the "
        "folder writable for this user, or choose another one with --llmperf-baselines"
    )
