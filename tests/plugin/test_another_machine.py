"""Is a machine that is not what it was neither green nor red?"""

from __future__ import annotations

import pytest

from tests.plugin.conftest import TEST, Session


@pytest.mark.usefixtures("history")
def test_cores_that_were_taken_away_since_the_run_began_are_another_machine(
    session: Session,
) -> None:
    """Between load and verdict, where the name of the machine is that of its beginning."""
    taken = TEST + (
        "    from pytest_llmperf import running_test\n"
        "    cores = running_test.usable_cores()\n"
        "    monkeypatch.setattr(running_test, 'usable_cores', lambda: cores + 1)\n"
    )
    taken = taken.replace("(load_model, measure)", "(load_model, measure, monkeypatch)")
    session("--llmperf-strict", source=taken).assert_outcomes(failed=1)
    result = session(source=taken, pace="0.5")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  inconclusive *usable cores when the run began, * now*"])


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
    for _ in range(6):  # recorded again and again, it does not become what is usual
        result = session("--llmperf-record", "--llmperf-strict", source=PROBED + TEST, pace=pace)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["red under --llmperf-strict: *the machine is slower: *"])
    accepted = session("--llmperf-accept-machine", source=PROBED + TEST, pace=pace)
    accepted.stdout.fnmatch_lines(["recorded: 3 pairs in baselines, 3 accepted as the new normal"])
    for _ in range(2):
        session("--llmperf-record", source=PROBED + TEST, pace=pace)
    session("--llmperf-strict", source=PROBED + TEST, pace=pace).assert_outcomes(passed=1)
