"""Which trouble of the NVIDIA driver is found, and when is a card gone rather than hidden?"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_llmperf.hardware import leftovers, nvidia
from pytest_llmperf.hardware.facts import Accelerator
from pytest_llmperf.hardware.gpu_watch import GpuReading
from pytest_llmperf.hardware.lease import lock_path
from pytest_llmperf.hardware.lock import Lock


@pytest.mark.parametrize(
    ("known", "gone"),
    [
        (["GPU-A", "GPU-B"], ()),
        (["GPU-B"], ("gpu-a",)),
        (["GPU-????????-????", "GPU-B"], ()),
        ([], ("gpu-a",)),
    ],
)
def test_a_card_is_gone_only_if_the_kernel_does_not_know_it(
    known: list[str], gone: tuple[str, ...], tmp_path: Path
) -> None:
    """Two runners' containers, each with a card of its own, share the folder of the leases."""
    cards = tmp_path / "gpus"
    for place, uuid in enumerate(known):
        (cards / f"0000:0{place}:00.0").mkdir(parents=True)
        information = cards / f"0000:0{place}:00.0" / "information"
        information.write_text(f"Model: \t\t NVIDIA A\nGPU UUID: \t {uuid}\nBus Type: \t PCIe\n")
    lease_of_a_card(tmp_path)
    traces = leftovers.look(tmp_path, [], cards=cards)
    assert traces.gone == gone
    assert traces.hidden == (() if gone else ("gpu-a",))


def test_a_list_that_a_container_cuts_tells_of_no_card_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_of_a_card(tmp_path)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    traces = leftovers.look(tmp_path, [], cards=tmp_path / "gpus")
    assert (traces.gone, traces.hidden) == ((), ("gpu-a",))

    def deny(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "is_mount", deny)
    assert leftovers.look(tmp_path, [], cards=tmp_path / "gpus").hidden == ("gpu-a",)


def test_a_card_that_was_divided_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease_of_a_card(tmp_path)
    unit = Accelerator(
        kind="cuda",
        vendor="nvidia",
        name="A100",
        integrated=False,
        uuid="MIG-1",
        mig="1g.5gb",
        mig_name="MIG-GPU-A/1/0",
    )
    monkeypatch.setattr(nvidia, "look", lambda: nvidia.Look(accelerators=(unit,)))
    traces = leftovers.look(tmp_path, [], cards=tmp_path / "gpus")
    assert (traces.gone, traces.hidden) == ((), ())


def lease_of_a_card(state: Path) -> None:
    (state / "leases").mkdir()
    lock = Lock(lock_path(state / "leases", "gpu-gpu-a"))
    assert lock.take()
    lock.leave()


def test_the_kernels_log_tells_xids(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text(
        "4,1,9,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off the bus.\n"
        "4,2,9,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1234, again\n"
        "4,3,9,-;NVRM: Xid (PCI:0000:02:00): 31, pid=1, MMU fault\n"
    )
    traces = leftovers.look(tmp_path, [], log)
    assert traces.xids == (("PCI:0000:01:00", 79), ("PCI:0000:02:00", 31))


def test_records_that_newer_ones_overwrote_end_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "kmsg"
    log.touch()
    read = os.read
    answers: list[bytes | OSError] = [
        b"4,1,9,-;NVRM: Xid (PCI:0000:01:00): 31, pid=1\n",
        BrokenPipeError(),
        b"4,9,9,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1\n",
        BlockingIOError(),
    ]

    def scripted(descriptor: int, size: int) -> bytes:
        if not os.path.samestat(os.fstat(descriptor), log.stat()):
            return read(descriptor, size)
        answer = answers.pop(0)
        if isinstance(answer, bytes):
            return answer
        raise answer

    monkeypatch.setattr(os, "read", scripted)
    traces = leftovers.look(tmp_path, [], log)
    assert traces.xids == (("PCI:0000:01:00", 31), ("PCI:0000:01:00", 79))


def test_an_unreadable_log_is_said_where_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert leftovers.look(tmp_path, [], tmp_path / "none").unseen == ()
    card = GpuReading(uuid="GPU-a", pci="0", name="RTX", integrated=False, used_bytes=0)
    monkeypatch.setattr(leftovers, "_gpus", lambda: ((card,), set(), ()))
    (told,) = leftovers.look(tmp_path, [], tmp_path / "none").unseen
    assert os.strerror(errno.ENOENT) in told
