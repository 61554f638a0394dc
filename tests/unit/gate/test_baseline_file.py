"""Does a file of baselines keep what it should, and say where it is broken?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.gate.baseline import EntryRefused, Line, ModuleBaselines
from pytest_llmperf.gate.baseline_file import (
    BaselineStore,
    Orphan,
)
from tests.unit.gate.baselines import HEADER, MODULE, THIRD, difference
from tests.unit.gate.test_baseline import KEY, OTHER, epoch, session


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
