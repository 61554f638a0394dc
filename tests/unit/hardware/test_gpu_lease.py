"""Are a process's GPUs its own until its engine is gone?"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.hardware import lock
from pytest_llmperf.hardware.facts import Accelerator
from pytest_llmperf.hardware.gpu_lease import GpuLeases
from pytest_llmperf.hardware.lease import LeaseError
from pytest_llmperf.hardware.visible import visible
from tests.unit.hardware.holding import holder, says, says_nothing, tells

CARD = Accelerator(kind="cuda", vendor="nvidia", name="RTX", integrated=False)
CARDS = tuple(msgspec.structs.replace(CARD, uuid=f"GPU-{each}") for each in "abc")

PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from pytest_llmperf.hardware.facts import Accelerator
from pytest_llmperf.hardware.gpu_lease import GpuLeases
from pytest_llmperf.hardware.visible import visible

gpus = [
    Accelerator(kind="cuda", vendor="nvidia", name="RTX", integrated=False, uuid=f"GPU-{each}")
    for each in "abc"
]
leases = GpuLeases(visible(gpus, {}), Path(sys.argv[1]))
count = None if sys.argv[2] == "all" else int(sys.argv[2])
seat = leases.take(count, on_wait=lambda: print("waits", flush=True))
print(seat.listed or "all", flush=True)
if len(sys.argv) > 3:
    engine = ["sleep", "600"]
    print(subprocess.Popen(engine, pass_fds=seat.descriptors).pid, flush=True)
sys.stdin.readline()
"""


GREEDY = """
import itertools, sys
from pathlib import Path
from pytest_llmperf.hardware.facts import Accelerator
from pytest_llmperf.hardware.gpu_lease import GpuLeases
from pytest_llmperf.hardware.visible import visible

gpus = [
    Accelerator(kind="cuda", vendor="nvidia", name="RTX", integrated=False, uuid=f"GPU-{each}")
    for each in "abc"
]
leases = GpuLeases(visible(gpus, {}), Path(sys.argv[1]))
for turn in itertools.count():
    leases.take(None)
    print(turn, flush=True)
    if turn == 0:
        sys.stdin.readline()
    leases.leave()
"""


def process(folder: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process that takes leases, says which, and holds them until it reads a line."""
    return holder(PROGRAM, folder, *arguments)


def leases(folder: Path, gpus: tuple[Accelerator, ...] = CARDS, **variables: str) -> GpuLeases:
    return GpuLeases(visible(gpus, variables), folder)


def is_free(folder: Path, uuid: str) -> bool:
    (path,) = folder.glob(f"gpu-{uuid.lower()}-*.lock")
    probe = lock.Lock(path)
    taken = probe.take()
    probe.leave()
    return taken


def test_each_process_takes_the_first_that_is_free(tmp_path: Path) -> None:
    with process(tmp_path, "1") as first, process(tmp_path, "1") as second:
        assert {says(first), says(second)} == {"GPU-a", "GPU-b"}
        seat = leases(tmp_path).take(1)
        assert seat is not None
        assert seat.listed == "GPU-c"


def test_who_finds_none_waits_for_any(tmp_path: Path) -> None:
    with process(tmp_path, "1") as first:
        assert says(first) == "GPU-a"
        with process(tmp_path, "2") as waiting, process(tmp_path, "all") as last:
            assert says(waiting) == "waits"
            assert says(last) == "waits"
            first.communicate("go\n", timeout=60)
            told = {says(waiting), says(last)} - {"waits"}
            while not told:
                told = {says(waiting), says(last)} - {"waits"}
            assert told in ({"GPU-a,GPU-b"}, {"all"})


@pytest.mark.parametrize("wanted", ["1", "2", "all"])
def test_one_that_comes_back_at_once_leaves_others_their_turn(wanted: str, tmp_path: Path) -> None:
    """Between two of its turns nobody would wake in time to see a GPU free."""
    with holder(GREEDY, tmp_path) as greedy:
        assert says(greedy) == "0"
        with process(tmp_path, wanted) as patient:
            assert says(patient) == "waits"
            tells(greedy, "go")
            while (told := says(patient)) == "waits":
                pass
            # One by one: whichever of them he sees free first.
            one = {"GPU-a", "GPU-b", "GPU-c"}
            assert told in {"1": one, "2": {"GPU-a,GPU-b"}, "all": {"all"}}[wanted]
            assert says_nothing(greedy), "its second turn comes after"
            patient.communicate("go\n", timeout=60)
            assert says(greedy) == "1"


def test_who_waits_for_all_keeps_nobody_from_those_that_he_does_not_have_yet(
    tmp_path: Path,
) -> None:
    first, third = (leases(tmp_path, CUDA_VISIBLE_DEVICES=each) for each in "02")
    assert first.take(1) is not None
    with process(tmp_path, "all") as waiting:
        assert says(waiting) == "waits"
        assert third.take(1, on_wait=lambda: pytest.fail("it waits")) is not None
        first.leave()
        third.leave()
        while (told := says(waiting)) == "waits":
            pass
        assert told == "all"


def test_an_engine_keeps_the_lease_of_its_killed_process(tmp_path: Path) -> None:
    with process(tmp_path, "1", "with engine") as holder:
        assert says(holder) == "GPU-a"
        engine = int(says(holder))
        holder.kill()
        holder.wait()
        try:
            assert not is_free(tmp_path, "GPU-a")
        finally:
            os.kill(engine, 9)
    while Path(f"/proc/{engine}/fd/0").exists():
        pass
    assert is_free(tmp_path, "GPU-a")


def test_two_workers_of_a_process_share_its_gpu(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    first, second = mine.take(1), mine.take(1)
    assert first is not None
    assert first == second
    assert not is_free(tmp_path, "GPU-a")
    mine.leave()
    assert is_free(tmp_path, "GPU-a")


def test_a_fresh_worker_gets_the_card_of_the_one_before(tmp_path: Path) -> None:
    with process(tmp_path, "1") as other:
        says(other)
        mine = leases(tmp_path)
        mine.take(1)
        other.communicate("go\n", timeout=60)
        mine.leave()
        seat = mine.take(1)
        assert seat is not None
        assert seat.listed == "GPU-b"


def test_names_are_those_of_the_user(tmp_path: Path) -> None:
    seat = leases(tmp_path, CUDA_VISIBLE_DEVICES="2,0").take(1)
    assert seat is not None
    assert (seat.listed, seat.uuids) == ("2", frozenset({"GPU-c"}))
    assert not is_free(tmp_path, "GPU-c")


@pytest.mark.parametrize(("count", "listed"), [(2, "GPU-a,GPU-b"), (3, None), (None, None)])
def test_what_spans_devices_takes_them_all(
    count: int | None, listed: str | None, tmp_path: Path
) -> None:
    seat = leases(tmp_path).take(count)
    assert seat is not None
    assert seat.listed == listed
    assert len(seat.descriptors) == len(seat.gpus) == (count or 3)


def test_waiting_for_what_might_wait_for_us_is_an_error(tmp_path: Path) -> None:
    with process(tmp_path, "1") as other:
        assert says(other) == "GPU-a"
        mine = leases(tmp_path)
        mine.take(1)
        with pytest.raises(LeaseError, match="load the model that takes several GPUs first"):
            mine.take(None)
        assert not is_free(tmp_path, "GPU-b")


def test_one_without_workers_gives_up_what_he_holds_for_what_he_wants(tmp_path: Path) -> None:
    with process(tmp_path, "1") as other:
        assert says(other) == "GPU-a"
        mine = leases(tmp_path)
        first = mine.take(1, alone=True)
        assert first is not None
        assert mine.take(1, alone=True) == first
        other.communicate("go\n", timeout=60)
        both = mine.take(2, alone=True)
    assert both is not None
    assert both.listed == "GPU-a,GPU-b"


def test_one_who_holds_a_gpu_may_take_more_above_it(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    mine.take(1)
    seat = mine.take(None)
    assert seat is not None
    assert len(seat.gpus) == 3


def test_different_cards_are_no_choice(tmp_path: Path) -> None:
    """Numbers of another card would be compared with the first one's."""
    other = msgspec.structs.replace(CARD, uuid="GPU-z", name="GT")
    variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    first = leases(tmp_path, (CARDS[0], other), **variables)
    seat = first.take(1)
    assert seat is not None
    assert seat.listed == "GPU-a"
    unordered = leases(tmp_path / "others", (CARDS[0], other)).take(1)
    assert unordered is not None
    assert (len(unordered.gpus), unordered.listed) == (2, None)


def test_free_takes_it_from_who_inherited_it(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    seat = mine.take(1)
    assert seat is not None
    with subprocess.Popen(["sleep", "600"], pass_fds=seat.descriptors) as worker:
        try:
            mine.free()
            assert is_free(tmp_path, "GPU-a")
        finally:
            worker.kill()


def test_a_fork_that_runs_no_other_program_holds_nothing(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    mine.take(1)
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.read(read_end, 1)
        os._exit(0)
    try:
        mine.leave()
        deadline = time.monotonic() + 30
        while not is_free(tmp_path, "GPU-a"):  # the fork may not have run yet
            assert time.monotonic() < deadline
    finally:
        os.write(write_end, b"!")
        os.waitpid(child, 0)
        os.close(read_end)
        os.close(write_end)


@pytest.mark.parametrize("count", [0, 1, None])
def test_nothing_is_taken_where_no_gpu_computes(count: int | None, tmp_path: Path) -> None:
    assert leases(tmp_path / "none", () if count != 0 else CARDS).take(count) is None
    assert not (tmp_path / "none").exists()


def test_a_wrong_list_is_an_error_in_words_for_who_needs_a_gpu(tmp_path: Path) -> None:
    mine = leases(tmp_path, CUDA_VISIBLE_DEVICES="7")
    assert mine.take(0) is None
    with pytest.raises(LeaseError, match=r"^CUDA_VISIBLE_DEVICES=7: there is no GPU number 7"):
        mine.take(1)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_disk_that_takes_no_lock_is_named_with_a_remedy(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("pytest_llmperf.hardware.lock.os.open", refuse)
    with pytest.raises(LeaseError, match="XDG_STATE_HOME") as caught:
        leases(tmp_path).take(1)
    assert os.strerror(number) in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_full_disk_takes_no_note_and_no_lock_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pytest_llmperf.hardware.lock.os.pwrite", refuse)
    mine = leases(tmp_path)
    for _ in range(2):
        assert mine.take(1) is not None
        assert not is_free(tmp_path, "GPU-a")
        (path,) = tmp_path.glob("gpu-*.lock")
        assert lock.last_taking(path) is None
        mine.leave()
        assert is_free(tmp_path, "GPU-a")


def test_another_users_lock_file_can_be_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.open

    def reads_only(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return really(path, flags, mode)

    path = tmp_path / "gpu-a.lock"
    path.write_text("theirs")
    monkeypatch.setattr("pytest_llmperf.hardware.lock.os.open", reads_only)
    mine, other = lock.Lock(path), lock.Lock(path)
    assert mine.take()
    assert not other.take()
    mine.leave()
    assert other.take()
    other.leave()
    assert path.read_text() == "theirs"
    with pytest.raises(PermissionError):
        lock.Lock(tmp_path / "missing.lock").take()


def test_a_lock_tells_who_took_it(tmp_path: Path) -> None:
    mine = leases(tmp_path)
    mine.take(1)
    (path,) = tmp_path.glob("gpu-*.lock")
    taking = lock.last_taking(path)
    assert taking is not None
    who = taking.process
    assert who.pid == os.getpid()
    assert who.is_alive
    assert not msgspec.structs.replace(who, start_ticks=1).is_alive
