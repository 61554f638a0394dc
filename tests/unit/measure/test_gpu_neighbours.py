"""Does the wait for a card's memory end when it is back, and say who holds it when it is not?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.hardware.gpu_watch import GpuSnapshot
from pytest_llmperf.measure import gpu_neighbours
from pytest_llmperf.measure.gpu_neighbours import sees_host_pids, wait_until_given_back
from tests.unit.measure.gpus import GIB, MIB, STRANGER, gpu, machine, process, snapshot

IDLE = snapshot(gpu(), gpu("GPU-bbbb", pci="00000000:02:00.0"))


class Script:
    """A watch that gives one reading after the other, and then the last one for ever."""

    def __init__(self, *readings: GpuSnapshot | None) -> None:
        self.readings = list(readings)
        self.asked = 0

    def read(self) -> GpuSnapshot | None:
        self.asked += 1
        return self.readings[min(self.asked, len(self.readings)) - 1]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_neighbours, "_POLL_S", 0.0)


def test_memory_that_comes_back_late_is_waited_for() -> None:
    held = snapshot(gpu(used_bytes=9 * GIB))
    script = Script(held, held, snapshot(gpu(used_bytes=1 * GIB + 60 * MIB)))
    assert wait_until_given_back(script, IDLE, 60.0) is None
    assert script.asked == 3


def test_memory_that_stays_is_told_with_who_holds_it(tmp_path: Path) -> None:
    machine(tmp_path, commands={STRANGER: "python train.py"})
    stuck = gpu(used_bytes=3 * GIB, processes=(process(STRANGER), process(78, name="/opt/b")))
    text = wait_until_given_back(Script(snapshot(stuck)), IDLE, 0.01, root=tmp_path)
    assert text is not None
    for words in (
        "GPU-aaaa (RTX 4060 Ti) holds 2048 MiB more",
        "0.01 s after it ended",
        "pid 77 (python train.py), pid 78 (/opt/b)",
        "Nothing was killed",
    ):
        assert words in text
    assert "GPU-bbbb" not in text


def test_memory_that_nobody_is_named_for_is_told_too(tmp_path: Path) -> None:
    machine(tmp_path)
    text = wait_until_given_back(
        Script(snapshot(gpu(used_bytes=3 * GIB))), IDLE, 0.0, root=tmp_path
    )
    assert text is not None
    assert "no compute process that the driver would name" in text


def test_cards_are_compared_with_themselves_whatever_their_order() -> None:
    bigger = gpu("GPU-bbbb", pci="00000000:02:00.0", used_bytes=8 * GIB)
    idle = snapshot(gpu(), bigger)
    assert wait_until_given_back(Script(snapshot(bigger, gpu())), idle, 0.0) is None


def test_what_cannot_be_read_any_more_is_not_waited_for() -> None:
    script = Script(snapshot(gpu(used_bytes=9 * GIB)), None)
    assert wait_until_given_back(script, IDLE, 60.0) is None
    one_pool = snapshot(gpu(integrated=True, used_bytes=None))
    assert wait_until_given_back(Script(one_pool), one_pool, 60.0) is None


def test_a_system_that_does_not_tell_its_namespace_is_taken_for_a_container(tmp_path: Path) -> None:
    assert not sees_host_pids(tmp_path)
    assert not sees_host_pids(machine(tmp_path / "container", container=True))
    assert sees_host_pids(machine(tmp_path / "host"))
