"""Is the top of a checkout found, from wherever tests are started?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.origin import checkout


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder of tests, two below the top."""
    folder = tmp_path / "top" / "engine" / "tests"
    folder.mkdir(parents=True)
    return folder


def test_it_is_the_workspace_of_a_job(deep: Path, tmp_path: Path) -> None:
    (deep.parent / ".git").mkdir()
    assert checkout(deep, {"GITHUB_WORKSPACE": str(tmp_path / "top")}) == tmp_path / "top"


def test_a_workspace_elsewhere_is_none_of_ours(deep: Path, tmp_path: Path) -> None:
    (tmp_path / "top" / ".git").write_text("gitdir: elsewhere")
    (tmp_path / "to").mkdir()
    assert checkout(deep, {"GITHUB_WORKSPACE": str(tmp_path / "to")}) == tmp_path / "top"


def test_without_a_job_it_is_where_git_is(deep: Path, tmp_path: Path) -> None:
    (tmp_path / "top" / ".git").mkdir()
    assert checkout(deep, {}) == tmp_path / "top"
    assert checkout(tmp_path / "top", {}) == tmp_path / "top"


def test_without_either_it_is_the_folder(deep: Path) -> None:
    found = checkout(deep, {})
    assert found == deep or (found / ".git").exists(), "the temporary folder may lie in a checkout"
