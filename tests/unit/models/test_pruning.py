"""Is what lies in the cache found, and is the right part of it chosen to go?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_llmperf.models.cache import Entry
from pytest_llmperf.models.pruning import Cached, chosen, contents, model_bytes, models
from tests.unit.models.cached import of_kind

NOW_S = 1_800_000_000.0
DAY_S = 24 * 3600.0


def cached(name: str, *, days: float, size: int = 10, kind: str = "model") -> Cached:
    return Cached(kind=kind, path=name, bytes=size, used_s=NOW_S - days * DAY_S)


ALL = [
    cached("new", days=1),
    cached("old", days=30),
    cached("older", days=60, size=5),
    cached("left", days=0, kind="partial"),
    cached("python", days=90, kind="environment"),
    cached("llama-server", days=90, kind="tool"),
]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["left", "older", "old", "new"]),
        ({"older_than_days": 30}, ["left", "older", "old"]),
        ({"older_than_days": 31}, ["left", "older"]),
        ({"keep_bytes": 20}, ["left", "older"]),
        ({"keep_bytes": 19}, ["left", "older", "old"]),
        ({"keep_bytes": 25}, ["left"]),
        ({"keep_bytes": 10, "older_than_days": 40}, ["left", "older"]),
        ({"environments": True, "older_than_days": 70}, ["left", "python"]),
    ],
)
def test_the_longest_unused_go_first(asked: dict[str, float], names: list[str]) -> None:
    choice = chosen(ALL, is_used=lambda each: False, now_s=NOW_S, **asked)  # type: ignore[arg-type] # a mixed bag
    assert [each.path for each in choice.go] == names
    assert choice.used == []


@pytest.mark.parametrize(
    ("used", "keep_bytes", "go", "left"),
    [
        ({"older"}, 15, ["left", "old"], ["older"]),
        ({"older", "old"}, 5, ["left", "new"], ["older", "old"]),
        ({"older", "left"}, 25, [], ["left"]),
        ({"new"}, 15, ["left", "older", "old"], []),
    ],
)
def test_what_is_in_use_stays_and_others_go_in_its_place(
    used: set[str], keep_bytes: int, go: list[str], left: list[str]
) -> None:
    choice = chosen(ALL, is_used=lambda each: each.path in used, now_s=NOW_S, keep_bytes=keep_bytes)
    assert [each.path for each in choice.go] == go
    assert [each.path for each in choice.used] == left


def test_everything_is_found_with_its_size(root: Path) -> None:
    found = contents(root)
    assert sorted(each.kind for each in found) == ["environment", "model", "partial", "tool"]
    assert all(10_000 <= each.bytes <= 40_000 for each in found)
    assert model_bytes(root) == sum(
        each.bytes for each in found if each.kind in {"model", "partial"}
    )


def test_an_empty_cache_holds_nothing(tmp_path: Path) -> None:
    assert contents(tmp_path / "none") == []


def test_looking_up_is_using(root: Path) -> None:
    folder = root / "models/llama-F16-0123456789ab"
    os.utime(folder, (1, 1))
    assert of_kind(root, "model").used_s == 1
    Entry(folder).hold()
    assert of_kind(root, "model").used_s > NOW_S - 20 * 365 * DAY_S


def test_a_folder_that_goes_meanwhile_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a build's does when it is renamed, between the listing and the look at it."""
    listed = [root / "models/.tmp-gone-F16-a-x", *(root / "models").iterdir()]
    monkeypatch.setattr("pytest_llmperf.models.pruning._folders", lambda folder: listed)
    assert sorted(each.kind for each in models(root)) == ["model", "partial"]


def test_what_a_removal_left_of_an_environment_is_partial(root: Path) -> None:
    (root / "environments/.tmp-vllm-a1").mkdir()
    kinds = {Path(each.path).name: each.kind for each in contents(root)}
    assert kinds[".tmp-vllm-a1"] == "partial"
    assert kinds["vllm"] == "environment"


def test_a_link_in_the_cache_is_no_part_of_it(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "weights").write_bytes(bytes(10_000_000))
    (root / "models/linked").symlink_to(elsewhere)
    (root / "models/llama-F16-0123456789ab/linked").symlink_to(elsewhere)
    assert len(models(root)) == 2
    assert model_bytes(root) < 1_000_000
