"""Is what a model takes of a card told rightly, and never told better than it is known?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_llmperf.hardware.gpu_watch import GpuSnapshot
from pytest_llmperf.measure.byte_figure import ByteFigure
from pytest_llmperf.measure.device_memory import (
    DeviceMemory,
    Readings,
    device_figures,
    device_memory,
    why_absent,
)
from tests.unit.measure.gpus import (
    GIB,
    MIB,
    STRANGER,
    WORKER,
    gpu,
    machine,
    peak,
    process,
    snapshot,
)

IDLE = snapshot(gpu())


def readings(
    root: Path, after: GpuSnapshot | None, idle: GpuSnapshot | None = IDLE, **changes: Any
) -> Readings:
    machine(root, container=changes.pop("container", False))
    return Readings(idle=idle, after=after, own_pids=frozenset({WORKER}), root=root, **changes)


def vram(device: DeviceMemory) -> ByteFigure:
    assert device.vram is not None
    return device.vram


def test_peak_of_the_allocator_and_what_the_worker_holds_beside_it(tmp_path: Path) -> None:
    """4 GiB of tensors at the peak; 5.4 held at the end, of which 5 are the allocator's."""
    held = 5 * GIB + 400 * MIB
    after = snapshot(gpu(used_bytes=9 * GIB, processes=(process(WORKER, held),)))
    (device,) = device_memory([peak()], readings(tmp_path, after))
    assert (vram(device).bytes, vram(device).kind) == (4 * GIB + 400 * MIB, "exact")
    assert device.allocated == ByteFigure(
        bytes=4 * GIB, kind="exact", how="torch.cuda.max_memory_allocated"
    )
    assert device.reserved == ByteFigure(
        bytes=6 * GIB, kind="exact", how="torch.cuda.max_memory_reserved"
    )
    assert (device.uuid, device.device, device.name) == ("GPU-aaaa", "cuda:0", "RTX 4060 Ti")
    assert (device.worker_bytes, device.difference_bytes) == (held, 8 * GIB)
    assert (device.foreign, device.note) == ([], "")


def test_a_stranger_does_not_blur_what_nvml_counts_for_us(tmp_path: Path) -> None:
    processes = (process(WORKER, 5 * GIB), process(STRANGER, 8 * GIB, "/usr/bin/game"))
    after = snapshot(gpu(used_bytes=14 * GIB, processes=processes))
    (device,) = device_memory([peak()], readings(tmp_path, after))
    assert (vram(device).bytes, vram(device).kind) == (4 * GIB, "exact")
    assert [str(each) for each in device.foreign] == ["pid 77 (/usr/bin/game)"]


def test_without_a_figure_of_our_own_the_card_is_compared_with_its_idle_self(
    tmp_path: Path,
) -> None:
    """A container: the list holds the host's numbers, one of them ours, which one is unknown."""
    after = snapshot(gpu(used_bytes=1 * GIB + 5 * GIB + 300 * MIB, processes=(process(31000),)))
    (device,) = device_memory([peak()], readings(tmp_path, after, container=True))
    assert (vram(device).bytes, vram(device).kind) == (4 * GIB + 300 * MIB, "sampled")
    assert vram(device).low_bytes == 4 * GIB
    assert "shared" not in vram(device).how
    assert device.foreign == []


def test_a_listed_worker_without_a_figure_counts_as_not_told(tmp_path: Path) -> None:
    for number, held in enumerate((None, 0, 100 * MIB)):
        root = tmp_path / str(number)
        after = snapshot(gpu(used_bytes=7 * GIB, processes=(process(WORKER, held),)))
        (device,) = device_memory([peak()], readings(root, after))
        assert (vram(device).bytes, vram(device).kind) == (5 * GIB, "sampled")
        assert device.foreign == []


def test_a_difference_that_others_may_have_made_is_marked(tmp_path: Path) -> None:
    foreign = process(STRANGER, 1 * GIB)
    idle = snapshot(gpu(processes=(foreign,)))
    after = snapshot(gpu(used_bytes=7 * GIB, processes=(foreign, process(WORKER, None))))
    (device,) = device_memory([peak()], readings(tmp_path, after, idle))
    assert vram(device).kind == "sampled"
    assert "shared with another process" in vram(device).how
    assert [each.pid for each in device.foreign] == [STRANGER]


def test_a_host_process_that_bears_our_number_is_not_taken_for_us(tmp_path: Path) -> None:
    """Inside a container the worker is 4000; on the host that has been somebody else for long."""
    other = process(WORKER, 8 * GIB)
    idle = snapshot(gpu(used_bytes=9 * GIB, processes=(other,)))
    after = snapshot(gpu(used_bytes=15 * GIB, processes=(other, process(31000, 6 * GIB))))
    (device,) = device_memory([peak()], readings(tmp_path, after, idle, container=True))
    assert vram(device).bytes == 5 * GIB
    assert vram(device).kind == "sampled"
    assert [each.pid for each in device.foreign] == [WORKER]


def test_two_new_processes_in_a_container_are_one_too_many(tmp_path: Path) -> None:
    processes = (process(31000), process(31001))
    after = snapshot(gpu(used_bytes=8 * GIB, processes=processes))
    (device,) = device_memory([peak()], readings(tmp_path, after, container=True))
    assert "shared" in vram(device).how


def test_without_an_idle_reading_the_truth_is_bounded(tmp_path: Path) -> None:
    after = snapshot(gpu(used_bytes=7 * GIB))
    (device,) = device_memory([peak()], readings(tmp_path, after, None))
    figure = vram(device)
    assert (figure.low_bytes, figure.bytes, figure.kind) == (4 * GIB, 6 * GIB, "bound")
    assert "no idle reading" in figure.how


def test_a_card_that_others_left_bounds_instead_of_subtracting_them(tmp_path: Path) -> None:
    idle = snapshot(gpu(used_bytes=9 * GIB))
    after = snapshot(gpu(used_bytes=7 * GIB))
    (device,) = device_memory([peak()], readings(tmp_path, after, idle))
    figure = vram(device)
    assert (figure.low_bytes, figure.bytes, figure.kind) == (4 * GIB, 6 * GIB, "bound")
    assert "gave memory back" in figure.how


def test_a_watch_that_died_leaves_the_allocator_and_its_reason(tmp_path: Path) -> None:
    told = readings(tmp_path, None, trouble="NVML stopped answering")
    (device,) = device_memory([peak()], told)
    assert vram(device).kind == "bound"
    assert "NVML stopped answering" in vram(device).how
    assert (device.uuid, device.total_bytes, device.used_on_device_bytes) == ("aaaa", None, 7 * GIB)


def test_cards_are_matched_by_uuid_and_not_by_their_order(tmp_path: Path) -> None:
    """CUDA's fastest first, NVML's by bus: cuda:0 is NVML's second."""
    idle = snapshot(gpu("GPU-slow"), gpu("GPU-fast", pci="00000000:02:00.0"))
    after = snapshot(
        gpu("GPU-slow", processes=(process(STRANGER, 1 * GIB),)),
        gpu("GPU-fast", pci="00000000:02:00.0", processes=(process(WORKER, 5 * GIB),)),
    )
    (device,) = device_memory([peak("FAST")], readings(tmp_path, after, idle))
    assert (device.uuid, device.device) == ("GPU-fast", "cuda:0")
    assert vram(device).kind == "exact"
    assert device.foreign == []


def test_cards_without_a_uuid_are_matched_by_their_bus_address(tmp_path: Path) -> None:
    address = "0000000A:02:00.0"
    after = snapshot(
        gpu("GPU-one"), gpu("GPU-two", pci=address, processes=(process(WORKER, 6 * GIB),))
    )
    (device,) = device_memory([peak(None, pci=address.lower())], readings(tmp_path, after))
    assert device.uuid == "GPU-two"


def test_an_address_that_two_instances_share_matches_neither(tmp_path: Path) -> None:
    after = snapshot(gpu("MIG-one"), gpu("MIG-two"))
    (device,) = device_memory([peak("other", pci=gpu().pci)], readings(tmp_path, after))
    assert (device.uuid, vram(device).kind) == ("other", "bound")
    assert "NVML knows no card" in vram(device).how


def test_an_integrated_gpu_has_no_vram_whatever_the_allocator_says(tmp_path: Path) -> None:
    after = snapshot(gpu(integrated=True, used_bytes=None, processes=(process(WORKER, 6 * GIB),)))
    for number, told in enumerate(([peak()], [])):
        (device,) = device_memory(told, readings(tmp_path / str(number), after, after))
        assert device.integrated
        assert (device.vram, device.used_on_device_bytes) == (None, None)
        assert "one pool with RAM" in device.note
        assert "vram" not in device_figures([device])
    told = [peak(integrated=True)]
    (device,) = device_memory(told, readings(tmp_path / "torch alone", None, None))
    assert device.vram is None


def test_an_engine_without_an_allocator_has_the_difference_at_the_end(tmp_path: Path) -> None:
    idle = snapshot(gpu(), gpu("GPU-b", pci="00000000:02:00.0"))
    after = snapshot(
        gpu(used_bytes=1 * GIB + 10 * MIB),
        gpu("GPU-b", pci="00000000:02:00.0", used_bytes=4 * GIB),
    )
    (device,) = device_memory([], readings(tmp_path, after, idle))
    assert (device.uuid, device.allocated, device.reserved) == ("GPU-b", None, None)
    assert (vram(device).bytes, vram(device).kind) == (3 * GIB, "sampled")
    assert "no peak is kept" in vram(device).how


def test_what_grew_on_a_shared_card_may_be_all_somebody_elses(tmp_path: Path) -> None:
    """A container, where the worker is not told from a neighbour that came meanwhile."""
    processes = (process(31000), process(31001))
    after = snapshot(gpu(used_bytes=8 * GIB, processes=processes))
    (device,) = device_memory([], readings(tmp_path, after, container=True))
    assert (vram(device).bytes, vram(device).low_bytes) == (7 * GIB, 0)


def test_an_engine_without_an_allocator_on_a_shared_card_has_its_own_figure(tmp_path: Path) -> None:
    processes = (process(WORKER, 2 * GIB), process(STRANGER, 5 * GIB))
    after = snapshot(gpu(used_bytes=9 * GIB, processes=processes))
    (device,) = device_memory([], readings(tmp_path, after))
    assert vram(device).bytes == 2 * GIB


def test_an_engine_without_an_allocator_alone_on_a_card_has_all_that_the_card_lost(
    tmp_path: Path,
) -> None:
    """NVML counts less for the process than the card lost to it."""
    after = snapshot(gpu(used_bytes=4 * GIB, processes=(process(WORKER, 2 * GIB),)))
    (device,) = device_memory([], readings(tmp_path, after))
    assert vram(device).bytes == 3 * GIB


def test_memory_that_a_neighbour_gave_back_is_not_taken_from_the_worker(tmp_path: Path) -> None:
    """The card has less in use than before, and the worker holds 2 GiB of it."""
    after = snapshot(gpu(used_bytes=GIB // 2, processes=(process(WORKER, 2 * GIB),)))
    (device,) = device_memory([], readings(tmp_path / "listed", after))
    assert vram(device).bytes == 2 * GIB


def test_a_card_that_a_stranger_fills_is_not_the_workers(tmp_path: Path) -> None:
    ours = gpu(used_bytes=4 * GIB, processes=(process(WORKER, 3 * GIB),))
    theirs = gpu("GPU-bbbb", pci="other", used_bytes=20 * GIB)
    told = readings(tmp_path, snapshot(ours, theirs))
    idle = snapshot(gpu(used_bytes=GIB), gpu("GPU-bbbb", pci="other", used_bytes=0))
    (device,) = device_memory([], replace(told, idle=idle))
    assert device.uuid == ours.uuid


def test_a_worker_of_two_processes_is_told_whole_or_not_at_all(tmp_path: Path) -> None:
    for number, (helper, expected) in enumerate(((1 * GIB, "exact"), (None, "sampled"))):
        processes = (process(WORKER, 5 * GIB), process(WORKER + 1, helper))
        after = snapshot(gpu(used_bytes=9 * GIB, processes=processes))
        told = readings(tmp_path / str(number), after)
        told = replace(told, own_pids=frozenset({WORKER, WORKER + 1}))
        (device,) = device_memory([peak()], told)
        assert vram(device).kind == expected
        assert device.worker_bytes == (6 * GIB if helper else None)


def test_nothing_found_has_a_reason(tmp_path: Path) -> None:
    quiet = readings(tmp_path / "quiet", IDLE)
    assert device_memory([], quiet) == []
    assert "no card's memory grew" in why_absent([], quiet)
    dead = readings(tmp_path / "dead", None, trouble="NVML was killed by SIGSEGV")
    assert device_memory([], dead) == []
    assert why_absent([], dead) == "NVML was killed by SIGSEGV"
    fallen = gpu(used_bytes=None, processes=None, trouble="does not answer (GPU is lost)")
    lost = readings(tmp_path / "lost", snapshot(fallen))
    assert device_memory([], lost) == []
    assert why_absent([], lost) == "GPU-aaaa (RTX 4060 Ti) does not answer (GPU is lost)"
    told = readings(tmp_path / "one pool", snapshot(gpu(integrated=True, used_bytes=None)))
    assert "one pool with RAM" in why_absent(device_memory([], told), told)


def test_of_two_cards_the_fuller_one_counts_and_not_their_sum(tmp_path: Path) -> None:
    second = {"uuid": "GPU-b", "pci": "00000000:02:00.0"}
    after = snapshot(
        gpu(processes=(process(WORKER, 5 * GIB),)),
        gpu(**second, processes=(process(WORKER, 9 * GIB),)),
    )
    idle = snapshot(gpu(), gpu(**second))
    peaks = [peak(), peak("b", device="cuda:1", peak_allocated_bytes=7 * GIB)]
    figures = device_figures(device_memory(peaks, readings(tmp_path, after, idle)))
    assert figures["vram"].bytes == 11 * GIB
    assert figures["vram"].how.startswith("the fullest of 2 GPUs (cuda:1): ")
    assert figures["vram_allocated"].bytes == 7 * GIB
