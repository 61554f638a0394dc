"""Does the command say what lies in the cache, and remove what it says, and no more?"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.models.cache import VARIABLE, Entry
from tests.unit.cli.baselines import unfolded


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, one of them old, and an environment."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for folder in ("models/old-F16-a", "models/new-F16-b", "environments/vllm"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "weights").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "environments/vllm/.ready").touch()
    os.utime(tmp_path / "models/old-F16-a", (1e9, 1e9))
    return tmp_path


def names(root: Path) -> list[str]:
    return sorted(each.name for each in root.glob("*/[!.]*"))


def test_it_lists(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    head, titles, *rows = capsys.readouterr().out.splitlines()
    assert head == f"{root}: 3 MiB"
    assert titles.split() == ["size", "last", "used"]
    assert ["old-F16-a", "model", "1", "MiB", "2001-09-09"] in [row.split() for row in rows]
    assert main(["cache", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["contents"]) == 3


def test_a_dry_run_only_says(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "prune", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("would free 2 MiB\n")
    assert names(root) == ["new-F16-b", "old-F16-a", "vllm"]
    assert main(["cache", "prune", "--dry-run", "--older-than=30", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert named(told["freed"]) == ["old-F16-a"]
    assert (told["used"], told["stuck"]) == ([], [])
    assert not (root / "models/.locks").exists()


def named(found: list[dict[str, str]]) -> list[str]:
    return [Path(each["path"]).name for each in found]


def test_what_is_in_use_is_told_and_another_goes_in_its_place(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Entry(root / "models/old-F16-a").hold()
    os.utime(root / "models/.locks/old-F16-a.used", (1e9, 1e9))
    assert main(["cache", "prune", "--keep-gb=0.001", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert named(told["freed"]) == ["new-F16-b"]
    assert named(told["used"]) == ["old-F16-a"]
    assert names(root) == ["old-F16-a", "vllm"]


def test_what_is_taken_at_the_last_moment_is_in_use(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Entry(root / "models/old-F16-a").hold()
    monkeypatch.setattr("pytest_llmperf.cli.cache.in_use", lambda each: False)
    assert main(["cache", "prune"]) == 0
    said = capsys.readouterr()
    assert "in use, and left alone: 1 MiB" in said.out
    assert names(root) == ["old-F16-a", "vllm"]
    assert said.err == ""


def test_what_cannot_be_removed_is_named(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert main(["cache", "prune", "--older-than=30", "--json"]) == 4
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["freed"], named(told["stuck"])) == ([], ["old-F16-a"])
    assert f"{root}/models/old-F16-a could not be removed" in unfolded(said.err)


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([], ["vllm"]),
        (["--older-than=30"], ["new-F16-b", "vllm"]),
        (["--keep-gb=0.001"], ["new-F16-b", "vllm"]),
        (["--keep-gb=1"], ["new-F16-b", "old-F16-a", "vllm"]),
        (["--environments"], []),
    ],
)
def test_it_removes_what_is_asked(root: Path, arguments: list[str], left: list[str]) -> None:
    assert main(["cache", "prune", *arguments]) == 0
    assert names(root) == left


@pytest.mark.parametrize("amount", ["-1", "nan", "much"])
def test_an_amount_is_a_number(root: Path, amount: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["cache", "prune", f"--keep-gb={amount}"])
    assert "must be a number of at least 0" in " ".join(capsys.readouterr().err.split())
    assert len(names(root)) == 3
