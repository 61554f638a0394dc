"""Are the shipped suites found by name?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf import suite_files
from pytest_llmperf.suite_files import UnknownSuite, suite_paths, suites_folder


def test_a_suite_is_found_by_its_name() -> None:
    (path,) = suite_paths("smoke")
    assert path == suites_folder() / "test_smoke.py"
    assert path.is_file()


def test_no_name_is_all_in_order() -> None:
    assert suite_paths("") == sorted(suites_folder().glob("test_*.py"))
    assert suite_paths("smoke")[0] in suite_paths("")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smok", r"^no suite 'smok', did you mean 'smoke'\?; there are: .*smoke"),
        ("zzz", "^no suite 'zzz'; there are: .*smoke"),
        ("../test_smoke", "^no suite '../test_smoke'.*; there are: .*smoke"),
    ],
)
def test_an_unknown_suite_names_the_nearest_and_all(name: str, words: str) -> None:
    with pytest.raises(UnknownSuite, match=words):
        suite_paths(name)


def test_only_test_files_are_suites_and_they_come_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("test_speed.py", "helpers.py", "test_memory.py", "test_notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.setattr(suite_files, "suites_folder", lambda: tmp_path)
    assert suite_paths("") == [tmp_path / "test_memory.py", tmp_path / "test_speed.py"]
    with pytest.raises(UnknownSuite, match=r"there are: memory, speed$"):
        suite_paths("helpers")
