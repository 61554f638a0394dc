"""Are the allocator's peaks read from the right cards, and from no other?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf.backends.device import (
    AllocatorPeak,
    merge_peaks,
    reset_torch_peaks,
    torch_device_peaks,
)


class Cuda:
    """What is used of ``torch.cuda``, for a machine of two cards of which the second is in use."""

    def __init__(self, *, initialized: bool = True, **properties: Any) -> None:
        self._initialized = initialized
        self._properties = properties
        self.asked: list[int] = []
        self.was_reset: list[int] = []

    def is_initialized(self) -> bool:
        return self._initialized

    def device_count(self) -> int:
        return 2

    def max_memory_reserved(self, index: int) -> int:
        return 60 * index

    def max_memory_allocated(self, index: int) -> int:
        return 40 * index

    def memory_reserved(self, index: int) -> int:
        return 50 * index

    def mem_get_info(self, index: int) -> tuple[int, int]:
        self.asked.append(index)
        return 900, 1000

    def get_device_properties(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(**self._properties)

    def reset_peak_memory_stats(self, index: int) -> None:
        self.was_reset.append(index)


def test_only_a_card_that_is_in_use_is_asked() -> None:
    """``mem_get_info`` would take half a GiB of any other."""
    cuda = Cuda(uuid="ab-cd", pci_domain_id=0, pci_bus_id=0x1A, pci_device_id=0, is_integrated=0)
    assert torch_device_peaks(SimpleNamespace(cuda=cuda)) == [
        AllocatorPeak(
            uuid="ab-cd",
            device="cuda:1",
            peak_allocated_bytes=40,
            peak_reserved_bytes=60,
            reserved_bytes=50,
            used_on_device_bytes=100,
            pci="00000000:1a:00.0",
        )
    ]
    assert cuda.asked == [1]
    reset_torch_peaks(SimpleNamespace(cuda=cuda))
    assert cuda.was_reset == [1]


def test_torch_without_cuda_is_not_made_to_start_it() -> None:
    cuda = Cuda(initialized=False)
    assert torch_device_peaks(SimpleNamespace(cuda=cuda)) == []
    reset_torch_peaks(SimpleNamespace(cuda=cuda))
    assert (cuda.asked, cuda.was_reset) == ([], [])


def test_an_older_torch_that_does_not_name_the_card_leaves_it_unnamed() -> None:
    (peak,) = torch_device_peaks(SimpleNamespace(cuda=Cuda(pci_bus_id=1)))
    assert (peak.uuid, peak.pci, peak.integrated) == (None, None, False)


@pytest.mark.parametrize(("load", "run", "peak"), [(9, 5, 9), (3, 5, 5)])
def test_the_peak_over_two_phases_is_the_larger_and_the_rest_the_later(
    load: int, run: int, peak: int
) -> None:
    def of(device: str, peak_bytes: int, now_bytes: int) -> AllocatorPeak:
        return AllocatorPeak(
            uuid=None,
            device=device,
            peak_allocated_bytes=peak_bytes,
            peak_reserved_bytes=2 * peak_bytes,
            reserved_bytes=now_bytes,
            used_on_device_bytes=now_bytes,
        )

    merged = merge_peaks([of("cuda:0", load, 1)], [of("cuda:0", run, 2), of("cuda:1", 7, 3)])
    assert merged == [
        of("cuda:0", peak, 2),
        of("cuda:1", 7, 3),
    ]
