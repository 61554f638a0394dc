"""What is measured, judged and said differently of a server?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.backends import Timeline
from pytest_llmperf.gate.pair import gated_metrics
from pytest_llmperf.hardware.counters import process_cpu_ns
from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.observer import Observed, tree_cpu_ns
from pytest_llmperf.measure.summary import summarize_metrics
from pytest_llmperf.measure.timeline import InvalidSample, read_sample
from pytest_llmperf.report.failure import failure_text
from tests.unit.gate.test_contract import measurement, quantity
from tests.unit.measure.test_invocation import LOAD, took
from tests.unit.report.test_failure import DECODE, slower
from tests.unit.report.test_result import laptop
from tests.unit.worker.answers import generated

BURN = """
import sys, time
while time.process_time() < 0.3:
    pass
print("burnt", flush=True)
sys.stdin.read()
"""


def of_server(found: Measurement, server: str | None) -> Measurement:
    return msgspec.structs.replace(
        found,
        engine=msgspec.structs.replace(found.engine, server=server),
    )


def test_a_request_that_the_adapter_rejects_is_invalid_for_its_first_reason() -> None:
    timeline = Timeline(2)
    assert timeline.rejected is None
    timeline.reject("cannot be counted")
    timeline.reject("and more")
    answer = generated(instants_ns=[10, 20])
    assert read_sample(answer, 4, 2).new_tokens == 2
    with pytest.raises(InvalidSample, match=r"^cannot be counted$"):
        read_sample(msgspec.structs.replace(answer, rejected=timeline.rejected), 4, 2)


def test_a_server_has_a_first_token_and_no_prefill() -> None:
    metrics, absent = summarize_metrics([took(1.0)], LOAD, Observed(), None, of_server=True)
    assert {"ttft", "decode_tps"} <= set(metrics)
    assert not {"prefill_tps", "mfu"} & set(metrics)
    assert absent["prefill_tps"] == "a server's queue is not prefill; its ttft is gated instead"


@pytest.mark.parametrize("server", [None, "started", "met"])
def test_the_first_token_is_compared_of_servers_only(server: str | None) -> None:
    metrics = {name: quantity(name, 1) for name in ("decode_tps", "ttft")}
    found = of_server(msgspec.structs.replace(measurement(), metrics=metrics), server)
    assert gated_metrics(found) == ["decode_tps", *(["ttft"] if server else [])]


def test_a_second_look_at_a_server_that_was_met_is_called_what_it_is(tmp_path: Path) -> None:
    judged = slower(DECODE)
    text = failure_text([judged], laptop(tmp_path), strict=False)
    assert "  confirmed  in 5 fresh processes: " in text
    met = msgspec.structs.replace(judged, measurement=of_server(judged.measurement, "met"))
    text = failure_text([met], laptop(tmp_path), strict=False)
    assert "  confirmed  by the same server, asked 5 times more: " in text
    assert "fresh process" not in text


@pytest.mark.skipif(sys.platform != "linux", reason="CPU clocks of other processes are Linux's")
def test_what_the_children_compute_is_the_workers_own() -> None:
    """A server's threads would otherwise be taken for those of a neighbour."""
    parent = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    with subprocess.Popen(
        [*parent, sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"burnt\n"
        assert tree_cpu_ns(process.pid) - process_cpu_ns(process.pid) >= 0.3e9
        process.stdin.close()
