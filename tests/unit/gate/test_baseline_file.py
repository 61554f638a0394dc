"""Does a file of baselines keep what it should, and say where it is broken?"""

from __future__ import annotations

import contextlib
import difflib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from filelock import FileLock, SoftFileLock

from pytest_llmperf.gate import baseline_file
from pytest_llmperf.gate.baseline import EntryRefused, Line, ModuleBaselines, PairKey
from pytest_llmperf.gate.baseline_file import (
    BaselineBusy,
    BaselineStore,
    BrokenBaseline,
    NotWritten,
    Orphan,
)
from tests.unit.gate.test_baseline import KEY, OTHER, epoch, session

MODULE = "tests/perf/test_chat.py"
THIRD = PairKey("test_long", "1", "ttft", "llama-cpp llama-160m Q4_K_M 4096+16")
HEADER = b'{"schema":"pytest-llmperf baselines","version":1}'


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "baselines", "linux-x86_64-amd-26-2-2c", lock_timeout_s=0.2)


@pytest.fixture
def path(store: BaselineStore) -> Path:
    """The file of three pairs with two sessions each."""
    store.update(
        MODULE,
        [
            line
            for key in (THIRD, KEY, OTHER)
            for line in (epoch(key=key), session(0, key=key), session(1, key=key))
        ],
    )
    return store.path(MODULE)


def difference(before: bytes, after: bytes) -> list[str]:
    lines = difflib.ndiff(before.decode().splitlines(), after.decode().splitlines())
    return [line for line in lines if line[0] in "+-"]


def broken(store: BaselineStore, change: Callable[[list[bytes]], list[bytes]]) -> BrokenBaseline:
    """Break the file, and see both that it is refused and that no update touches it."""
    path = store.path(MODULE)
    path.write_bytes(b"\n".join(change(path.read_bytes().split(b"\n"))))
    data = path.read_bytes()
    with pytest.raises(BrokenBaseline):
        store.update(MODULE, [session(2)])
    assert path.read_bytes() == data
    with pytest.raises(BrokenBaseline) as seen:
        store.read(MODULE)
    assert seen.value.path == path
    place = f"{path}:{seen.value.line}: " if seen.value.line else f"{path}: "
    assert str(seen.value).startswith(place)
    return seen.value


def test_a_missing_file_holds_no_baselines(store: BaselineStore) -> None:
    assert store.read(MODULE) == ModuleBaselines(MODULE)
    assert store.modules() == ()
    assert not store.folder.exists()


def test_what_is_written_is_read(store: BaselineStore) -> None:
    full = session(
        0,
        guard=("CPU throttled for 3 s",),
        seeded=True,
        log_probe=23.7,
        probe_cv=0.004,
        conditions={"cpu_pressure": 0.25},
        software={"llama-cpp": "0.3.36"},
    )
    written = store.update(MODULE, [epoch(reason="„warum“\nand why"), full, session(1)])
    assert store.read(MODULE) == written
    assert written.of(KEY).sessions == (full, session(1))


def test_lines_are_sorted_and_say_first_what_a_reader_looks_for(
    store: BaselineStore, path: Path
) -> None:
    store.update(MODULE, [epoch(1, key=OTHER), session(2, key=OTHER, epoch=1)])
    header, *lines = path.read_bytes().splitlines()
    assert header == HEADER
    seen = [msgspec.json.decode(line) for line in lines]
    of_test = [each["key"]["test"] for each in seen]
    assert of_test == sorted(of_test)
    names = [
        (e["kind"], e["epoch"], e.get("session")) for e in seen if e["key"]["test"] == OTHER.test
    ]
    assert names == [
        ("epoch", 0, None), ("session", 0, "run-0"), ("session", 0, "run-1"),
        ("epoch", 1, None), ("session", 1, "run-2"),
    ]  # fmt: skip
    assert lines[1].startswith(b'{"kind":"session","key":{"test":"test_chat[Q4_K_M]","measure":')
    assert b'},"epoch":0,"session":"run-0","date":"2026-11-02T12:00:00Z",' in lines[1]


def test_accepting_one_test_changes_only_its_lines(store: BaselineStore, path: Path) -> None:
    before = path.read_bytes()
    store.update(MODULE, [epoch(1, key=OTHER), session(2, key=OTHER, epoch=1)])
    changed = difference(before, path.read_bytes())
    assert len(changed) == 2
    assert all(line.startswith("+ ") and OTHER.test in line for line in changed)


def test_lines_of_other_tests_keep_their_bytes_however_they_are_written(
    store: BaselineStore, path: Path
) -> None:
    data = path.read_bytes().replace(b'"reason":"new driver"', b'"reason" : "by hand"')
    path.write_bytes(data.replace(b'"n":10', b'"n": 10').replace(b"\n", b"\r\n"))
    before = path.read_bytes().splitlines(keepends=True)
    store.update(MODULE, [session(1, key=OTHER, value=19.0)])
    after = path.read_bytes().splitlines(keepends=True)
    assert len(after) == len(before)
    changed = [new for old, new in zip(before, after, strict=True) if new != old]
    assert len(changed) == 1
    assert b'"session":"run-1"' in changed[0]
    assert OTHER.test.encode() in changed[0]


def test_an_update_that_changes_nothing_does_not_touch_the_file(
    store: BaselineStore, path: Path
) -> None:
    before = path.stat()
    store.update(MODULE, [epoch(), session(1), session(0)])
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_same_run_recorded_twice_is_written_once(store: BaselineStore, path: Path) -> None:
    lines: list[Line] = [session(2, log_value=3.08641975309), session(2, key=OTHER)]
    store.update(MODULE, lines)
    once = path.read_bytes()
    store.update(MODULE, lines)
    assert path.read_bytes() == once


def test_a_refused_change_leaves_the_file_as_it_is(store: BaselineStore, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(EntryRefused):
        store.update(MODULE, [session(2), epoch(7)])
    assert path.read_bytes() == before


def test_what_another_process_wrote_meanwhile_is_kept(store: BaselineStore, path: Path) -> None:
    stale = store.read(MODULE)
    BaselineStore(store.folder.parent, store.folder.name).update(MODULE, [session(8)])
    after = store.update(MODULE, [session(9)])
    new = after.of(KEY).sessions[len(stale.of(KEY).sessions) :]
    assert [each.session for each in new] == ["run-8", "run-9"]


def test_sides_of_a_merge_kept_in_any_order_read_and_are_sorted_by_the_next_writing(
    store: BaselineStore, path: Path
) -> None:
    whole = store.read(MODULE)
    sorted_lines = path.read_bytes()
    header, *lines = sorted_lines.splitlines()
    path.write_bytes(b"\n".join([header, *lines[6:], b"", *lines[:6]]))
    assert store.read(MODULE) == whole
    store.update(MODULE, [session(2)])
    (added,) = difference(sorted_lines, path.read_bytes())
    assert '"run-2"' in added


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


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("tests/perf/test_chat.py", "tests/perf/test_chat.py.jsonl"),
        ("pytest_llmperf.suites.test_smoke", "pytest_llmperf.suites.test_smoke.jsonl"),
        ('t/a:b?"<c>|*\\.py', "t/a%3Ab%3F%22%3Cc%3E%7C%2A%5C.py.jsonl"),
        ("../100%/é ü.py", "%2E%2E/100%25/é ü.py.jsonl"),
        ("./.hidden/ends./test.py", "%2E/%2Ehidden/ends%2E/test.py.jsonl"),
        ("line\nbreak.py", "line%0Abreak.py.jsonl"),
    ],
)
def test_every_module_has_a_file_of_its_own(store: BaselineStore, module: str, file: str) -> None:
    store.update(module, [epoch()])
    assert str(store.path(module).relative_to(store.folder)) == file
    assert (store.folder / file).is_file()
    assert store.modules() == (module,)
    assert store.read(module).module == module


@pytest.mark.parametrize("module", ["", "/tests/test_it.py", "tests//test_it.py", "tests/"])
def test_what_is_no_path_under_the_root_is_no_module(store: BaselineStore, module: str) -> None:
    with pytest.raises(EntryRefused, match="not a module's path"):
        store.read(module)


def test_entries_of_tests_that_are_gone_are_found_and_forgotten(
    store: BaselineStore, path: Path
) -> None:
    store.update("tests/test_gone.py", [epoch()])
    known = {MODULE: [KEY.test, OTHER.test], "tests/test_new.py": ["test_new"]}
    orphans = store.orphans(known)
    assert orphans == (Orphan(MODULE, THIRD), Orphan("tests/test_gone.py", KEY))
    before = path.read_bytes()
    for orphan in orphans:
        store.forget(orphan.module, [orphan.key])
    assert all(THIRD.test in line for line in difference(before, path.read_bytes()))
    assert store.modules() == (MODULE,)
    assert store.orphans(known) == ()


def test_fingerprints_do_not_see_each_other(store: BaselineStore, path: Path) -> None:
    other = BaselineStore(store.folder.parent, "linux-x86_64-1x-nvidia-rtx-4060-ti-16g-cc8.9")
    assert other.read(MODULE).pairs == {}
    assert other.folder != store.folder
