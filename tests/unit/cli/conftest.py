"""A folder of baselines, and a way to ask about it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pytest_llmperf import cli
from pytest_llmperf.gate.baseline import Line
from pytest_llmperf.gate.baseline_file import BaselineStore
from pytest_llmperf.hardware.detect import detect
from tests.unit.cli.baselines import (
    CHAT,
    HERE,
    LONG,
    MODULE,
    PREFILL,
    Ask,
    sessions,
    unfolded,
)
from tests.unit.gate.test_baseline import epoch


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of baselines; this machine is another than the one that runs the tests."""
    here = msgspec.structs.replace(detect(), fingerprint=HERE, cpu_fingerprint=HERE)
    monkeypatch.setattr("pytest_llmperf.cli.baseline.detect", lambda: here)
    monkeypatch.delenv("GITHUB_ACTOR", raising=False)
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("LLMPERF_HISTORY", f"sqlite:///{tmp_path / 'history.db'}")
    return tmp_path / "baselines"


@pytest.fixture
def store(root: Path) -> BaselineStore:
    """Two tests: ten sessions of the one, and two of the other."""
    store = BaselineStore(root, HERE)
    lines: list[Line] = [epoch(key=CHAT), *sessions(CHAT, 10, 20.0)]
    lines += [epoch(key=PREFILL), *sessions(PREFILL, 10, 400.0)]
    lines += [epoch(key=LONG), *sessions(LONG, 2, 3.0)]
    store.update(MODULE, lines)
    return store


@pytest.fixture
def ask(root: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Exit code, output and complaints, the latter unfolded, of one command."""

    def asked(command: str, *arguments: object) -> tuple[int, str, str]:
        words = ["baseline", command, "--baselines", str(root), *map(str, arguments)]
        code = cli.main(words)
        told = capsys.readouterr()
        return code, told.out, unfolded(told.err)

    return asked
