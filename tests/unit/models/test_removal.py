"""Does a removal leave alone what is used or made, and nothing half removed under its name?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.models.cache import LOCKS, Entry
from pytest_llmperf.models.pruning import contents
from pytest_llmperf.models.removal import Outcome, in_use, remove
from tests.unit.models.cached import of_kind

HOLD = """
import sys
from pathlib import Path
from pytest_llmperf.models.cache import Entry
entry = Entry(Path(sys.argv[1]))
if sys.argv[2] == "looks it up":
    entry.hold()
else:
    lock = entry.locked(None, print)
    lock.__enter__()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(root: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that looks a model up, or builds one."""
    name, what = request.param
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root / "models" / name), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (("llama-F16-0123456789ab", "looks it up"), "model"),
        (("llama-F16-0123456789ab", "builds it"), "model"),
        (("phi-Q4_0-0123456789ab", "builds it"), "partial"),
    ],
    indirect=["other"],
)
def test_what_another_process_uses_stays_until_it_is_dead(
    root: Path, other: subprocess.Popen[str], kind: str
) -> None:
    mine = of_kind(root, kind)
    assert in_use(mine)
    assert remove(mine) is Outcome.IN_USE
    assert Path(mine.path, "file").exists()
    other.kill()
    other.wait()
    assert not in_use(mine)
    assert remove(mine) is Outcome.GONE
    assert not Path(mine.path).exists()


def test_what_this_process_has_looked_up_stays(root: Path) -> None:
    mine = of_kind(root, "model")
    Entry(Path(mine.path)).hold()
    assert in_use(mine)
    assert remove(mine) is Outcome.IN_USE


@pytest.mark.parametrize("kind", ["model", "partial"])
def test_to_ask_writes_nothing(root: Path, kind: str) -> None:
    assert not in_use(of_kind(root, kind))
    assert not (root / "models" / LOCKS).exists()


def run_from(environment: Path) -> subprocess.Popen[bytes]:
    program = environment / "sleep"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    return subprocess.Popen([program, "60"])


@pytest.mark.parametrize("through_a_link", [False, True])
def test_an_environment_that_runs_stays(root: Path, tmp_path: Path, through_a_link: bool) -> None:
    if through_a_link:
        root = tmp_path / "cache-elsewhere"
        root.symlink_to(tmp_path)
    mine = of_kind(root, "environment")
    with run_from(Path(mine.path)) as process:
        used, outcome = in_use(mine), remove(mine)
        process.kill()
    assert used
    assert outcome is Outcome.IN_USE
    assert remove(mine) is Outcome.GONE


def test_an_environment_that_is_being_made_stays(root: Path) -> None:
    mine = of_kind(root, "environment")
    Path(mine.path, ".ready").unlink()
    assert in_use(mine)
    assert remove(mine) is Outcome.IN_USE
    assert Path(mine.path, "file").exists()


def leave_a_part(folder: Path, **_: object) -> None:
    """As rmtree does where a file cannot be deleted, or when it is killed."""
    for each in folder.iterdir():
        if each.name != "file":
            each.unlink()


@pytest.mark.parametrize("kind", ["model", "environment"])
def test_what_is_removed_in_part_is_not_found_under_its_name(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(of_kind(root, "partial").path)
    mine = of_kind(root, kind)
    with monkeypatch.context() as broken:
        broken.setattr("shutil.rmtree", leave_a_part)
        assert remove(mine) is Outcome.STUCK
    assert not Path(mine.path).exists()
    left = of_kind(root, "partial")
    assert Path(left.path, "file").exists()
    assert remove(left) is Outcome.GONE
    assert not Path(left.path).exists()


def test_the_next_builder_sweeps_what_a_removal_left(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry(Path(of_kind(root, "model").path))
    with monkeypatch.context() as broken:
        broken.setattr("shutil.rmtree", leave_a_part)
        remove(of_kind(root, "model"))
    with entry.locked(None, lambda: None), entry.temporary():
        left = [path.name for path in entry.folder.parent.glob(f".tmp-{entry.folder.name}-*")]
        assert len(left) == 1


@pytest.mark.parametrize("kind", ["model", "environment"])
def test_where_nothing_may_be_written_all_stays_whole(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root user may write everywhere, so that the system's answer is played."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    mine = of_kind(root, kind)
    with monkeypatch.context() as read_only:
        read_only.setattr("pathlib.Path.rename", refuse)
        assert remove(mine) is Outcome.STUCK
    assert Path(mine.path, "file").exists()


@pytest.mark.parametrize("trouble", [PermissionError(13, "no"), NotImplementedError("no flock")])
def test_what_cannot_be_locked_is_not_removed(
    root: Path, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise trouble

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    mine = of_kind(root, "model")
    assert remove(mine) is Outcome.STUCK
    assert Path(mine.path, "file").exists()


def test_a_folder_that_nobody_may_write_to(root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    mine = of_kind(root, "model")
    (root / "models").chmod(0o555)
    try:
        assert not in_use(mine)
        assert remove(mine) is Outcome.STUCK
        assert Path(mine.path, "file").exists()
    finally:
        (root / "models").chmod(0o755)


def test_what_somebody_else_has_removed_is_gone(root: Path) -> None:
    for each in contents(root):
        shutil.rmtree(each.path)
        assert remove(each) is Outcome.GONE


def test_what_a_link_points_to_stays(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / "weights-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "weights").touch()
    mine = of_kind(root, "model")
    Path(mine.path, "linked").symlink_to(elsewhere)
    assert remove(mine) is Outcome.GONE
    (root / "models/linked").symlink_to(elsewhere)
    remove(msgspec.structs.replace(mine, path=str(root / "models/linked")))
    assert (elsewhere / "weights").exists()
