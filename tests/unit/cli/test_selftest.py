"""Does ``pytest-llmperf selftest`` tell a runner that can hold a gate from one that cannot?"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_llmperf.backends import find_backend
from pytest_llmperf.cli import selftest
from pytest_llmperf.cli.answer import NOTHING, TOOL_FAILED
from pytest_llmperf.cli.workbench import Workbench
from tests.unit.cli.baselines import unfolded

STEADY = ("--backend", "fake", "--sessions", "7", "-o", "noise_cv=0.003")
PROGRAM = """
import sys
from tests.unit.cli.test_selftest import command
sys.exit(command(*sys.argv[1:]))
"""

PaceFile = Callable[..., str]


def command(*arguments: str) -> int:
    """The exit code of ``pytest-llmperf selftest`` with these arguments."""
    parser = argparse.ArgumentParser()
    selftest.add_command(parser.add_subparsers(required=True))
    options = parser.parse_args(["selftest", *arguments])
    return int(options.run(options))


@pytest.fixture(autouse=True)
def undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted engine measures nothing, so that it need not wait for who does."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def paces(tmp_path: Path) -> PaceFile:
    """The option that multiplies the speeds of worker 0, 1, … by these factors."""

    def write(*factors: float) -> str:
        path = tmp_path / "paces"
        path.write_text(" ".join(map(str, factors)))
        return f"pace_file={path}"

    return write


def test_a_steady_engine_can_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*STEADY) == 0
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert lines[0] == "fake 1 · llama-15m · 128+96 tokens"
    assert "7 sessions with 7 workers in " in told
    assert "This runner can hold a 5 % gate: the smallest loss it would find is " in told
    assert "false alarms: 0 of 4 judged sessions turned red" in told
    assert [round(float(each)) for each in cells(told, "median, tok/s")] == [100, 1000]
    assert cells(told, "NO_BASELINE") == ["3", "3"]
    assert cells(told, "PASSED") == ["4", "4"]
    assert max(map(len, lines)) <= 80


def cells(told: str, label: str) -> list[str]:
    """The row of the table that begins with ``label``."""
    row = next(line for line in told.splitlines() if line.strip().startswith(label))
    return row.strip().removeprefix(label).split()


def test_one_whose_sessions_differ_by_a_tenth_cannot(
    paces: PaceFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*STEADY, "-o", paces(*[1.0, 1.1] * 4)) == selftest.CANNOT_HOLD
    told = " ".join(capsys.readouterr().out.split())
    assert "This runner cannot hold a 5 % gate: the smallest loss it would find is 1" in told
    assert "what disturbs it: nothing that can be seen from here." in told


def test_a_false_red_is_counted(paces: PaceFile, capsys: pytest.CaptureFixture[str]) -> None:
    """Session 6 and its five fresh workers lose 30 %, as no noise could."""
    script = paces(*[1.0] * 5, *[0.7] * 6, 1.0)
    assert command(*STEADY, "-o", script, "--json") == selftest.CANNOT_HOLD
    report = json.loads(capsys.readouterr().out)
    found = report["placebo"]
    assert (found["judged"], found["red"], found["red_rate"]) == (4, 1, 0.25)
    assert found["holds"] is False
    assert "1 of 4 unchanged sessions turned red" in found["answer"]
    assert report["workers"] == 7 + 5
    decode = found["pairs"][0]
    assert decode["verdicts"]["REGRESSED"] == decode["second_looks"] == 1
    assert [len(each["pairs"][0]["looks"]) for each in report["sessions"]] == [1] * 5 + [6, 1]


def test_a_suspect_that_was_unlucky_once_is_no_false_alarm(
    paces: PaceFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*STEADY, "-o", paces(*[1.0] * 5, 0.93, 1.0), "--json") == 0
    found = json.loads(capsys.readouterr().out)["placebo"]
    assert (found["red"], found["pairs"][0]["second_looks"]) == (0, 1)


def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*STEADY, "--json") == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["backend"] == "fake"
    assert report["workload"]["prompt_tokens"] == 128
    assert report["hardware"]["cpu"]["usable_cores"] >= 1
    assert [each["metric"] for each in report["placebo"]["pairs"]] == ["decode_tps", "prefill_tps"]
    first = report["placebo"]["pairs"][0]
    assert 0 < first["session_cv_low"] < first["session_cv"] < first["session_cv_high"] < 0.01
    assert first["value"] == pytest.approx(100, rel=0.01)
    assert first["probe_cv"] is None
    assert len(report["sessions"]) == 7


def test_every_session_is_judged_by_all_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    command(*STEADY, "--json")
    report = json.loads(capsys.readouterr().out)
    compared = [each["pairs"][0]["judgement"]["sessions"] for each in report["sessions"]]
    assert compared == [0, 1, 2, 3, 4, 5, 6]


def test_invalid_measurements_are_red(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*STEADY, "-o", "missing_tokens=1") == selftest.CANNOT_HOLD
    told = capsys.readouterr().out
    assert "INVALID: llama-15m: 95 tokens generated, 96 asked for" in told
    assert "7 of 7 unchanged sessions turned red" in told


def test_the_long_form_has_a_column_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--long", *STEADY) == 0
    told = capsys.readouterr().out
    assert told.startswith("fake 1 · llama-15m, llama-160m · 128+96 tokens\n")
    assert cells(told, "llama-15m") == ["llama-15m", "llama-160m", "llama-160m"]
    assert cells(told, "sessions ") == ["7", "7", "7", "7"]
    assert "7 sessions with 14 workers" in told
    assert max(map(len, told.splitlines())) <= 80


@pytest.mark.parametrize(("flags", "sessions"), [((), 12), (("--long",), 40)])
def test_each_form_has_its_number_of_sessions(
    flags: tuple[str, ...], sessions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by a trial that is interrupted before its first one."""
    seen = []

    class Interrupted(selftest.Trial):
        def __init__(self, bench: Workbench, planned: int, baselines: Path) -> None:
            super().__init__(bench, planned, baselines)
            seen.append(planned)

        def measure(self, _: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "Trial", Interrupted)
    assert command(*flags, "--backend", "fake") == TOOL_FAILED
    assert seen == [sessions]


def test_no_engine_is_nothing_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("llama-cpp", "transformers"):
        backend = find_backend(name)
        monkeypatch.setattr(type(backend), "distribution", "no-such-package-for-llmperf")
    assert command() == NOTHING
    told = capsys.readouterr()
    assert told.out == ""
    assert unfolded(told.err) == (
        "pytest-llmperf selftest: backend transformers is not installed: "
        "pip install 'pytest-llmperf[transformers]'"
    )


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["--backend", "lama-cp"], 2, "unknown backend 'lama-cp', did you mean 'llama-cpp'?"),
        (["--backend", "fake", "-o", "n_ctx=64"], 2, "need a context of 224"),
        (["--backend", "fake", "-o", "disaster=sigkill"], 4, "killed by SIGKILL during decode"),
        (["--model", "none.gguf"], 3, "no such file or folder"),
    ],
)
def test_what_goes_wrong_is_one_message_and_an_exit_code(
    arguments: list[str], exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == exit_code
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.startswith("pytest-llmperf selftest: ")
    assert told.out == ""


def test_a_worker_that_dies_later_takes_nothing_away(capsys: pytest.CaptureFixture[str]) -> None:
    script = ["-o", "disaster=exit", "-o", "in_invocation=5"]
    assert command(*STEADY, *script) == TOOL_FAILED
    told = capsys.readouterr()
    assert "Ended after 5 of 7 sessions" in told.out
    assert "fake worker exited with code 3 during decode" in told.err
    (named,) = [word for word in told.err.split() if word.endswith("worker-005-fake.log")]
    assert Path(named).exists()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    assert command(*STEADY) == 0
    assert list(tmp_path.glob("pytest-llmperf-selftest-*")) == []


@pytest.mark.parametrize(
    "arguments", [["--sessions", "4"], ["--sessions", "many"], ["-o", "n_ctx"], ["--no-such"]]
)
def test_a_bad_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(*arguments)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of its own whose fifth worker answers nothing any more."""
    script = ["-o", "disaster=hang", "-o", "in_invocation=4"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *STEADY, *script],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()


def test_ctrl_c_ends_the_worker_and_prints_what_was_measured(
    hanging: subprocess.Popen[str], tmp_path: Path
) -> None:
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("pytest-llmperf-selftest-*/worker-004-*.log")):
        assert time.monotonic() < deadline
        assert hanging.poll() is None
        time.sleep(0.05)
    workers = psutil.Process(hanging.pid).children(recursive=True)
    hanging.send_signal(signal.SIGINT)
    out, err = hanging.communicate(timeout=30)
    assert hanging.returncode == TOOL_FAILED
    assert "Ended after 4 of 7 sessions" in " ".join(out.split())
    assert cells(out, "sessions ") == ["4", "4"]
    assert err == "pytest-llmperf selftest: interrupted\n"
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert list(tmp_path.glob("pytest-llmperf-selftest-*")) == []
