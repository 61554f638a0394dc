"""Does a run compare with earlier sessions, look again at what is suspect, and write when told?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.plugin.conftest import Run

TEST = """
@pytest.mark.perf(max_regression="3%")
def test_chat(load_model, measure):
    measure(load(load_model, noise_cv=0.002, pace_file="pace"))
"""
Session = Callable[..., pytest.RunResult]


@pytest.fixture
def session(llmperf: Run, pytester: pytest.Pytester) -> Session:
    """One run of an engine at this pace: of the first worker, and of each fresh one."""

    def run(*arguments: str, pace: str = "1", source: str = TEST) -> pytest.RunResult:
        (pytester.path / "pace").write_text(pace)
        return llmperf(source, *arguments)

    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the baselines of ten sessions are kept from test to test."""
    return tmp_path_factory.mktemp("kept") / "baselines"


@pytest.fixture
def history(session: Session, pytester: pytest.Pytester, kept: Path) -> None:
    """Ten sessions that differ a little."""
    if kept.exists():
        shutil.copytree(kept, pytester.path / "baselines")
        return
    for pace in (1.0, 1.004, 0.997, 1.002, 0.996, 1.003, 0.999, 1.001, 0.998, 1.0):
        assert session("--llmperf-record", pace=str(pace)).ret == 0
    shutil.copytree(pytester.path / "baselines", kept)


def lines(root: Path, kind: str) -> list[dict[str, Any]]:
    (path,) = root.glob("baselines/*/test_it.py.jsonl")
    told = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return [line for line in told if line["kind"] == kind]


def test_nothing_is_written_unasked(session: Session, pytester: pytest.Pytester) -> None:
    assert session().ret == 0
    assert not (pytester.path / "baselines").exists()


def test_a_first_session_is_no_baseline_and_red_under_strict(session: Session) -> None:
    result = session()
    result.stdout.fnmatch_lines(["*1 without baseline*"])
    result = session("--llmperf-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*decode_tps: 0 of 3 sessions of history"])


def test_recorded_sessions_are_sorted_and_told(session: Session, pytester: pytest.Pytester) -> None:
    for _ in range(2):
        result = session("--llmperf-record")
        result.stdout.fnmatch_lines(["recorded: 3 pairs in baselines"])
    told = lines(pytester.path, "session")
    assert [line["key"]["metric"] for line in told] == [
        "decode_tps", "decode_tps", "prefill_tps", "prefill_tps", "ram", "ram",
    ]  # fmt: skip
    assert [line["reason"] for line in lines(pytester.path, "epoch")] == ["first session"] * 3


@pytest.mark.usefixtures("history")
def test_the_same_build_passes_and_says_what_it_would_find(session: Session) -> None:
    result = session(pace="0.99")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["* −*.* %  *−*.* %*", "* mde *% *mde *%", "*3 baselines compared: 1 passed"]
    )


@pytest.mark.usefixtures("history")
def test_a_loss_is_looked_at_again_and_red(session: Session) -> None:
    result = session(pace="0.87")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "perf regressed: decode * tok/s is 13 % below its baseline, 3 % is tolerated",
            "perf regressed: prefill * tok/s is 13 % below its baseline, 3 % is tolerated",
            "  baseline   decode * tok/s (20*, 10 sessions) → −13 %, REGRESSED",
            "  certainty  decode −* % to −* %; a loss of * % would be found",
            "  baseline   prefill * tok/s (20*, 10 sessions) → −13 %, REGRESSED",
            "*1 regressed",
            "  looked again at 1 measurement: * s more",
        ]
    )


@pytest.mark.usefixtures("history")
def test_a_slow_first_worker_alone_is_no_loss(session: Session) -> None:
    result = session(pace="0.9 1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  looked again at 1 measurement: * s more"])


@pytest.mark.usefixtures("history")
def test_without_a_second_look_a_suspect_is_undecided(session: Session) -> None:
    assert session("--llmperf-second-look=off", pace="0.87").ret == 0
    result = session("--llmperf-second-look=off", "--llmperf-strict", pace="0.87")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*decode_tps: suspect, and not looked at a second time"])


@pytest.mark.usefixtures("history")
def test_a_gain_passes_and_is_told(session: Session) -> None:
    result = session(pace="1.2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*+20 %*", "*1 improved"])


@pytest.mark.usefixtures("history")
def test_an_accepted_loss_is_the_new_normal_with_its_reason(
    session: Session, pytester: pytest.Pytester
) -> None:
    result = session("--llmperf-accept=safer kernels", pace="0.87")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["recorded: 3 pairs in baselines, 2 accepted as the new normal"])
    assert [line["reason"] for line in lines(pytester.path, "epoch")] == [
        "first session", "safer kernels", "first session", "safer kernels", "first session",
    ]  # fmt: skip
    for _ in range(2):
        assert session("--llmperf-record", pace="0.87").ret == 0
    session("--llmperf-strict", pace="0.87").assert_outcomes(passed=1)


def test_a_test_without_tolerance_is_gated_once_it_has_a_baseline(session: Session) -> None:
    source = TEST.replace('@pytest.mark.perf(max_regression="3%")', "@pytest.mark.perf(min_tps=1)")
    session(source=source).stdout.fnmatch_lines(["*1 budget judged: 1 passed"])
    for _ in range(4):
        session("--llmperf-record", source=source)
    session(source=source, pace="0.8").assert_outcomes(failed=1)


@pytest.mark.usefixtures("history")
def test_a_broken_baseline_is_an_error_with_file_and_line(
    session: Session, pytester: pytest.Pytester
) -> None:
    (path,) = pytester.path.glob("baselines/*/test_it.py.jsonl")
    path.write_text(path.read_text().replace('"kind":"session"', "<<<<<<< HEAD", 1))
    result = session()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{path.name}:3: not a line of baselines*"])


@pytest.mark.usefixtures("history")
def test_baselines_that_cannot_be_written_end_the_run_as_an_error(
    session: Session, pytester: pytest.Pytester
) -> None:
    (folder,) = pytester.path.glob("baselines/*")
    (folder / ".lock").unlink()
    (folder / ".lock").mkdir()
    result = session("--llmperf-record")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["note: baselines: *cannot be written*"])


@pytest.mark.usefixtures("history")
def test_under_xdist_the_controller_records(session: Session, pytester: pytest.Pytester) -> None:
    result = session("--llmperf-record", "-n", "2", pace="0.87")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["recorded: 3 pairs in baselines"])
    assert len(lines(pytester.path, "session")) == 33


@pytest.mark.usefixtures("history")
def test_an_invalid_measurement_is_not_recorded(
    session: Session, pytester: pytest.Pytester
) -> None:
    source = TEST.replace("noise_cv=0.002", "noise_cv=0.002, missing_tokens=1")
    session("--llmperf-record", source=source).assert_outcomes(failed=1)
    assert len(lines(pytester.path, "session")) == 30


SUITE = """
@pytest.mark.parametrize("number", range(6))
def test_chat(load_model, measure, number):
    measure(load(load_model, noise_cv=0.002, pace_file="pace"), prompt_tokens=8 + number)
"""


@pytest.fixture
def suite_history(session: Session) -> None:
    """Six sessions of twelve pairs."""
    for pace in (1.0, 1.004, 0.997, 1.002, 0.996, 1.003):
        assert session("--llmperf-record", pace=str(pace), source=SUITE).ret == 0


@pytest.mark.usefixtures("suite_history")
def test_a_loss_that_no_test_shows_alone_is_one_red_case(
    session: Session, pytester: pytest.Pytester
) -> None:
    session(source=SUITE).assert_outcomes(passed=7)
    for processes in ("0", "2"):
        result = session("--junitxml=out.xml", "-n", processes, pace="0.965", source=SUITE)
        assert result.ret == 1
        result.assert_outcomes(passed=6, failed=1)
        result.stdout.fnmatch_lines(
            [
                "suite regressed: the median of 12 pairs is −3.* % against its baselines",
                "  baseline   6 sessions; more than −*.* % is no accident",
            ]
        )
        cases = ElementTree.parse(pytester.path / "out.xml").getroot().findall(".//testcase")
        failed = [case.get("name") for case in cases if case.find("failure") is not None]
        assert (len(cases), failed) == (7, ["suite-shift"])


@pytest.mark.usefixtures("history")
def test_a_baseline_whose_test_is_gone_is_named_and_red_under_strict(session: Session) -> None:
    source = TEST.replace("test_chat", "test_talk").replace('max_regression="3%"', "min_tps=1")
    said = "note: a baseline has no test any more: test_it.py::test_chat"
    result = session(source=source)
    assert result.ret == 0
    result.stdout.fnmatch_lines([said])
    assert session("--llmperf-strict", source=source).ret == 1
    # What was not asked for is not gone.
    for part in (["-k", "talk"], ["test_it.py::test_talk"]):
        both = source + TEST.replace("import pytest", "")
        session("--llmperf-strict", *part, source=both).stdout.no_fnmatch_line(said)
    session("--llmperf-strict", "test_it.py::test_talk", source=source).stdout.no_fnmatch_line(said)


PROBED = """
import json, pathlib, pytest
from pytest_llmperf.measure import instruments
from tests.unit.measure.test_roofline import PROBE
import msgspec

@pytest.fixture(autouse=True)
def probed(monkeypatch):
    rate = float(pathlib.Path("bandwidth").read_text())
    probe = msgspec.structs.replace(
        PROBE, bandwidth_best=rate, bandwidth_median=rate, bandwidth_low=rate, bandwidth_high=rate
    )
    monkeypatch.setattr(instruments.Instruments, "probes_around", lambda *_: (probe, probe))
"""


@pytest.mark.parametrize("pace", ["1", "0.5"])
def test_a_machine_at_half_its_speed_is_never_green(
    session: Session, pytester: pytest.Pytester, pace: str
) -> None:
    (pytester.path / "bandwidth").write_text("40e9")
    for _ in range(5):
        assert session("--llmperf-record", source=PROBED + TEST).ret == 0
    (pytester.path / "bandwidth").write_text("20e9")
    result = session(source=PROBED + TEST, pace=pace)
    result.stdout.fnmatch_lines(
        [
            "*INCONCLUSIVE",
            "  inconclusive 1×: decode_tps: the machine is slower: its bandwidth probe is 50% *",
        ]
    )
    session("--llmperf-strict", source=PROBED + TEST, pace=pace).assert_outcomes(failed=1)
    accepted = session("--llmperf-accept-machine", source=PROBED + TEST, pace=pace)
    accepted.stdout.fnmatch_lines(["recorded: 3 pairs in baselines, 3 accepted as the new normal"])
    for _ in range(2):
        session("--llmperf-record", source=PROBED + TEST, pace=pace)
    session("--llmperf-strict", source=PROBED + TEST, pace=pace).assert_outcomes(passed=1)


def test_memory_that_grew_is_confirmed_once_and_red(
    session: Session, pytester: pytest.Pytester
) -> None:
    """The engine takes as many MiB as a file says: an option would make another baseline."""
    source = TEST.replace('pace_file="pace"', 'ram_file="ram"')
    for mib in ("100", "101", "99", "100"):
        (pytester.path / "ram").write_text(mib)
        assert session("--llmperf-record", source=source).ret == 0
    (pytester.path / "ram").write_text("140")
    result = session(source=source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "perf regressed: RAM 0.1* GiB is * % above its baseline, 3 % is tolerated",
            "  baseline   0.1* GiB (20*, 4 sessions) → +* %, REGRESSED",
            "  looked again at 1 measurement: * s more",
        ]
    )
