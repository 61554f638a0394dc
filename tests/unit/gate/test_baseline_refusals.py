"""Is a file of baselines that cannot be read or written refused, and left as it was?"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock, SoftFileLock

from pytest_llmperf.gate import baseline_file
from pytest_llmperf.gate.baseline_file import (
    BaselineBusy,
    BaselineStore,
    BrokenBaseline,
    NotWritten,
)
from tests.unit.gate.baselines import HEADER, MODULE, THIRD, broken
from tests.unit.gate.test_baseline import epoch, session


@pytest.mark.parametrize("marker", [b"<<<<<<< HEAD", b"||||||| 1a2b", b"=======", b">>>>>>> main"])
def test_a_merge_conflict_is_named(store: BaselineStore, path: Path, marker: bytes) -> None:
    error = broken(store, lambda lines: [*lines[:3], marker, *lines[3:]])
    assert error.line == 4
    assert f"merge-conflict marker {marker[:7].decode()}. Keep the lines of both" in str(error)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b'{"schema":"somebody else\'s","version":1}', "\"somebody else's\", not 'pytest-llmperf"),
        (HEADER.replace(b"1}", b'2,"new":[]}'), "version is 2, and this release reads 1. Update"),
        (HEADER.replace(b"1}", b"0}"), "version is 0"),
        (HEADER.replace(b"1}", b'"1"}'), "Expected `int`, got `str`"),
        (b'{"version":1}', "missing required field `schema`"),
        (b'{"x":' + b"[" * 100_000, "not a line of baselines"),
        (b"version https://git-lfs.github.com/spec/v1", "not a line of baselines"),
        (b"<<<<<<< HEAD", "merge-conflict marker"),
        (b"", "the file is empty, or its first line is"),
    ],
)
def test_a_first_line_that_is_not_ours_is_refused(
    store: BaselineStore, path: Path, header: bytes, why: str
) -> None:
    error = broken(store, lambda lines: [header, *lines[1:]])
    assert error.line == 1
    assert why in str(error)


@pytest.mark.parametrize("data", [b"", b"\n", b" \n\n"])
def test_an_empty_file_is_not_an_empty_baseline(
    store: BaselineStore, path: Path, data: bytes
) -> None:
    assert "the file is empty" in str(broken(store, lambda _: [data]))


@pytest.mark.parametrize(
    ("good", "bad", "why"),
    [
        (b'{"kind"', b'?? {"kind"', "not a line of baselines: JSON is malformed"),
        (b'"n":10', b'"n":"10"', "Expected `int`, got `str` - at `$.n`"),
        (b'"n":10', b'"n":-10', "Expected `int` >= 1 - at `$.n`"),
        (b'"n":10,', b"", "missing required field `n`"),
        (b'"n":10', b'"n":10,"gaurd":["throttled"]', "unknown field `gaurd`"),
        (b'"test":', b'"tset":', "unknown field `tset`"),
        (b'"epoch":0,', b"", "missing required field `epoch`"),
        (b'"spread":0.01', b'"spread":-0.01', ">= 0"),
        (b'"spread":0.01', b'"spread":NaN', "JSON is malformed"),
        (b'"spread":0.01', b'"spread":Infinity', "JSON is malformed"),
        (b'"spread":0.01', b'"spread":1e999', "out of range"),
        (b'"spread":0.01', b'"spread":null', "Expected `float`, got `null`"),
        (b'"n":10', b'"n":10,"log_probe":NaN', "JSON is malformed"),
        (b'"n":10', b'"n":10,"log_probe":1000.5', "<= 100"),
        (b'"log_value":', b'"log_value":-1000.5,"x":', "Expected `float` >= -100"),
        (b'"date":"2026', b'"date":"yesterday', "Invalid RFC3339"),
        (b'"kind":"session"', b'"kind":"sesion"', "Invalid value 'sesion'"),
        (b'"kind":"session"', b'"x":' + b"[" * 100_000, "not a line of baselines"),
        (b"run-0", b"run-\xff", "can't decode byte 0xff"),
        (b'{"kind"', b'[{"kind"', "Expected `object`, got `array`"),
        (b'"epoch":0', b'"epoch":1', "no line accepts epoch 1 of decode_tps of test_chat[Q4_K_M]"),
    ],
)
def test_nonsense_is_refused_with_its_line(
    store: BaselineStore, path: Path, good: bytes, bad: bytes, why: str
) -> None:
    def edit(lines: list[bytes]) -> list[bytes]:
        assert good in lines[2]
        return [*lines[:2], lines[2].replace(good, bad, 1), *lines[3:]]

    error = broken(store, edit)
    assert error.line == 3
    assert why in str(error)


def test_the_same_session_twice_is_refused(store: BaselineStore, path: Path) -> None:
    error = broken(store, lambda lines: [*lines[:4], lines[2], *lines[4:]])
    assert error.line == 5
    assert "session run-0 of decode_tps of test_chat[Q4_K_M]" in str(error)
    assert "stands in line 3 already. Delete one" in str(error)


def test_two_acceptances_of_one_number_are_refused(store: BaselineStore, path: Path) -> None:
    error = broken(store, lambda lines: [*lines[:4], lines[1].replace(b"ann", b"bob"), *lines[4:]])
    assert error.line == 5
    assert "accepted in line 2 already. Keep the lines of one acceptance" in str(error)


@pytest.mark.parametrize("lost", [1, 2, 50, 200])
def test_a_last_line_that_is_cut_off_is_refused(
    store: BaselineStore, path: Path, lost: int
) -> None:
    def cut(lines: list[bytes]) -> list[bytes]:
        assert lines[-1] == b""
        return [*lines[:-2], lines[-2][:-lost]]

    error = broken(store, cut)
    assert error.line == 10
    assert "the last line is cut off" in str(error)


def test_a_missing_line_break_at_the_end_loses_nothing(store: BaselineStore, path: Path) -> None:
    whole, data = store.read(MODULE), path.read_bytes()
    path.write_bytes(data.rstrip(b"\n"))
    assert store.read(MODULE) == whole
    store.update(MODULE, [session(0, key=THIRD, value=19.0)])
    assert path.read_bytes().count(b"\n") == data.count(b"\n")


def test_a_folder_in_the_files_place_is_refused(store: BaselineStore, path: Path) -> None:
    path.unlink()
    path.mkdir()
    with pytest.raises(BrokenBaseline, match="Is a directory"):
        store.read(MODULE)
    with pytest.raises(BrokenBaseline, match="Is a directory"):
        store.update(MODULE, [epoch()])


def test_a_link_to_nowhere_is_not_an_empty_baseline(store: BaselineStore, path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")
    with pytest.raises(BrokenBaseline, match="a link to a file that is not there"):
        store.read(MODULE)


@contextlib.contextmanager
def a_user_without_rights() -> Iterator[None]:
    """Root may read everything, so it becomes somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_must_not_be_read_is_not_an_empty_baseline(
    store: BaselineStore, path: Path
) -> None:
    path.chmod(0)
    with a_user_without_rights(), pytest.raises(BrokenBaseline, match="Permission denied"):
        store.read(MODULE)


def test_a_folder_that_must_not_be_listed_has_no_unknown_modules(
    store: BaselineStore, path: Path
) -> None:
    path.parent.chmod(0)
    try:
        with a_user_without_rights(), pytest.raises(BrokenBaseline, match="Permission denied"):
            store.modules()
    finally:
        path.parent.chmod(0o755)


def test_a_folder_that_must_not_be_written_loses_nothing(store: BaselineStore, path: Path) -> None:
    before = path.read_bytes()
    for folder in (path.parent, store.folder):
        folder.chmod(0o555)
    try:
        with a_user_without_rights(), pytest.raises(NotWritten, match="Permission denied"):
            store.update(MODULE, [session(2)])
    finally:
        for folder in (path.parent, store.folder):
            folder.chmod(0o755)
    assert path.read_bytes() == before


def test_a_disk_that_fills_up_leaves_the_old_file_and_nothing_beside_it(
    store: BaselineStore, path: Path
) -> None:
    before, names = path.read_bytes(), sorted(path.parent.iterdir())
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), unlimited[1]))
    try:
        with pytest.raises(NotWritten, match=r"test_chat\.py\.jsonl: .*too large.*--llmperf-base"):
            store.update(MODULE, [session(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == names


def test_who_cannot_have_the_lock_is_told_which_file_it_is(
    store: BaselineStore, path: Path
) -> None:
    before = path.read_bytes()
    with FileLock(store.folder / ".lock"):
        with pytest.raises(BaselineBusy, match=r"2c/\.lock: another run .* 0\.2 s"):
            store.update(MODULE, [session(2)])
        assert len(store.read(MODULE).pairs) == 3, "reading does not wait"
    assert path.read_bytes() == before


def test_a_lock_that_outlives_its_owner_is_not_used(
    store: BaselineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline_file, "FileLock", SoftFileLock)
    with pytest.raises(NotWritten, match="does not support flock"):
        store.update(MODULE, [epoch()])
    assert store.modules() == ()


def test_version_control_does_not_see_the_lock(store: BaselineStore, path: Path) -> None:
    assert (store.folder / ".gitignore").read_text() == ".*\n"
    seen = {each.name for each in store.folder.iterdir() if not each.name.startswith(".")}
    assert seen == {"tests"}
