"""Do answers fit a terminal, and end in peace when nobody reads them?"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf import cli
from pytest_llmperf.cli.answer import complain
from pytest_llmperf.gate.baseline_file import BaselineStore

READER_LEFT = 141


def unread(*arguments: str, stderr_too: bool = False) -> tuple[int, str]:
    """Exit code and complaints of a command whose reader was gone before it said anything."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_llmperf", *arguments],
        stdout=writer,
        stderr=writer if stderr_too else subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_reader_that_left_is_no_error(store: BaselineStore, root: Path, json: list[str]) -> None:
    told = unread("baseline", "list", "--baselines", str(root), "--fingerprint", "*", *json)
    assert told == (READER_LEFT, "")


def test_so_is_one_that_wanted_help_or_the_complaints() -> None:
    assert unread("--help")[1] == ""
    assert unread("history", "list", "--url", "off", stderr_too=True)[0] == READER_LEFT


def test_another_broken_pipe_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> int:
        raise BrokenPipeError("of a worker")

    monkeypatch.setattr("pytest_llmperf.cli.doctor.run", broken)
    with pytest.raises(BrokenPipeError, match="of a worker"):
        cli.main(["doctor"])


def test_complaints_fit_80_columns_and_leave_paths_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = "/" + "folder/" * 12
    complain(f"{'what is wrong ' * 8}{path}\n    {'indented ' * 12}\nshort   as it was")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if len(line) > 80] == [f"  {path}"]
    assert [line[:6] for line in lines if "indented" in line] == ["    in", "      "]
    assert lines[-1] == "short   as it was"


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "no-backend"],
        ["run", "fake:model", "--backend=fake", "-o", "speed=3"],
        ["run", "fake:model", "--samples=none", "--prompt-tokens=4"],
        ["history", "list", "--url", "this is no database, and nobody knows what it may be"],
        ["baseline", "list", "--baselines", "none", "--fingerprint", "somewhere-else"],
    ],
)
def test_whatever_a_command_complains_of(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with contextlib.suppress(SystemExit):  # argparse's own end
        assert cli.main(arguments) in {2, 3, 4}
    lines = capsys.readouterr().err.splitlines()
    assert 0 < max(map(len, lines)) <= 80
