"""What is left of a file of baselines when its writer is killed, or is not the only one?"""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import random
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.gate.baseline import EpochLine, PairKey, SessionLine
from pytest_llmperf.gate.baseline_file import BaselineStore

FINGERPRINT = "linux-x86_64-test"
NOON = datetime.datetime(2026, 11, 2, 12, tzinfo=datetime.UTC)
KILLS, KILLS_PER_MODULE = 200, 10
LONGEST_LIFE_S = 0.1
PER_PAIR = 20
"""Sessions of which a pair drops none."""

READY = "ready"


def key(number: int) -> PairKey:
    """A new pair, in no order, whenever the last one is full."""
    test = random.Random(number // PER_PAIR).randrange(16**6)
    return PairKey(f"test_{test:06x}", "1", "decode_tps", "fake")


def write(root: Path, module: str, run: str, numbers: range, reported: Connection) -> None:
    """Be told to begin, record sessions one by one, and say of each when it is written."""
    store = BaselineStore(root, FINGERPRINT, lock_timeout_s=30.0)
    reported.send(READY)
    reported.recv()
    for number in numbers:
        if not store.read(module).of(key(number)).epochs:
            store.update(module, [first_acceptance(number)])
        store.update(module, [session(run, number)])
        reported.send(number)


def first_acceptance(number: int) -> EpochLine:
    return EpochLine(
        key=key(number),
        epoch=0,
        date=NOON,
        accepted_by="test",
        reason="first",
        commit=None,
        old=None,
        new=20.0,
    )


def session(run: str, number: int) -> SessionLine:
    return SessionLine(
        key=key(number),
        epoch=0,
        session=f"{run}-{number}",
        date=NOON,
        value=20.0,
        log_value=3.0,
        spread=0.01,
        n=10,
    )


def kept(root: Path, module: str) -> set[str]:
    """Names of all sessions in the file."""
    pairs = BaselineStore(root, FINGERPRINT).read(module).pairs
    return {each.session for pair in pairs.values() for each in pair.sessions}


def received(reports: Connection) -> list[int]:
    """All that was reported until the other end was closed, by whatever means."""
    numbers = []
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            numbers.append(reports.recv())
    return numbers


class Writer:
    """A process that waits to be let loose on one module."""

    def __init__(self, processes: ForkServerContext, root: Path, *task: Any) -> None:
        self.reports, theirs = processes.Pipe()
        self.process = processes.Process(target=write, args=(root, *task, theirs))
        self.process.start()
        theirs.close()
        assert self.reports.recv() == READY

    def begin(self) -> None:
        self.reports.send(READY)


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """A writer is a fork of a small process that has imported what it needs: it starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def test_a_killed_writer_leaves_a_whole_file_with_all_that_it_reported(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    chance = random.Random(20261102)
    written: dict[str, set[str]] = {}
    torn = 0
    for kill in range(KILLS):
        module = f"tests/test_{kill // KILLS_PER_MODULE}.py"
        numbers = range(kill * 1000, (kill + 1) * 1000)
        writer = Writer(processes, tmp_path, module, "run", numbers)
        writer.begin()
        time.sleep(chance.uniform(0, LONGEST_LIFE_S))
        writer.process.kill()
        writer.process.join()
        assert writer.process.exitcode == -signal.SIGKILL
        reported = {f"run-{number}" for number in received(writer.reports)}
        expected = written.get(module, set()) | reported
        found = kept(tmp_path, module)
        assert found >= expected, "a session is lost that was reported as written"
        assert len(found - expected) <= 1, "more is there than was ever begun"
        written[module] = found
        torn += any(tmp_path.glob(f"{FINGERPRINT}/{Path(module).parent}/.{Path(module).name}*"))
    print(f"{sum(map(len, written.values()))} sessions kept; {torn} kills left half a file beside")
    assert torn, "no kill struck while a file was being written"


def test_two_writers_at_once_lose_nothing(processes: ForkServerContext, tmp_path: Path) -> None:
    names = ("ann", "bob")
    numbers = range(0, 100, 2)
    writers = [Writer(processes, tmp_path, "test_it.py", name, numbers) for name in names]
    for writer in writers:
        writer.begin()
    assert [received(writer.reports) for writer in writers] == [list(numbers)] * 2
    for writer in writers:
        writer.process.join()
    assert kept(tmp_path, "test_it.py") == {f"{name}-{n}" for name in names for n in numbers}
