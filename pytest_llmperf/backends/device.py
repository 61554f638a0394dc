"""What did an engine's own allocator take of each GPU?

Read in the worker, where the engine lives. Source: PyTorch's documentation of ``torch.cuda``
(``max_memory_allocated``, ``max_memory_reserved``, ``memory_reserved``, ``mem_get_info``); all
figures are in bytes, peaks are those since the last reset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec


class AllocatorPeak(msgspec.Struct, frozen=True, kw_only=True):
    """Peaks of the allocator on one GPU, in bytes, and what is in use now."""

    uuid: str | None
    """As CUDA writes it, without NVML's ``GPU-``; None where torch does not tell."""
    device: str
    """``cuda:0``: the place among the devices that the worker sees, which is not NVML's."""
    peak_allocated_bytes: int
    """Most that tensors took at once."""
    peak_reserved_bytes: int
    """Most that the allocator held at once, its unused blocks included."""
    reserved_bytes: int
    """What it holds now."""
    used_on_device_bytes: int
    """Total − free of the whole card now, of all processes."""
    pci: str | None = None
    """``00000000:01:00.0``, as NVML writes it; None where torch does not tell."""
    integrated: bool = False
    """The GPU shares RAM."""


def torch_device_peaks(torch: Any) -> list[AllocatorPeak]:
    """The peaks on every GPU on which torch has held memory; empty without one."""
    return [_peak(torch, index) for index in _devices_in_use(torch)]


def reset_torch_peaks(torch: Any) -> None:
    """Start new peaks from what is in use now."""
    for index in _devices_in_use(torch):
        torch.cuda.reset_peak_memory_stats(index)


def merge_peaks(
    earlier: Sequence[AllocatorPeak], later: Sequence[AllocatorPeak]
) -> list[AllocatorPeak]:
    """The peaks over both phases of one worker; what is in use now is that of ``later``."""
    before = {peak.device: peak for peak in earlier}
    after = {peak.device: peak for peak in later}
    merged = []
    for device in dict.fromkeys((*before, *after)):
        first = before.get(device, after.get(device))
        last = after.get(device, first)
        assert first is not None
        assert last is not None
        merged.append(
            msgspec.structs.replace(
                last,
                peak_allocated_bytes=max(first.peak_allocated_bytes, last.peak_allocated_bytes),
                peak_reserved_bytes=max(first.peak_reserved_bytes, last.peak_reserved_bytes),
            )
        )
    return merged


def _devices_in_use(torch: Any) -> Iterator[int]:
    """Only these are asked: ``mem_get_info`` puts a context of some 0.5 GiB on any other.

    Source: pytorch/pytorch issue 86493.
    """
    if not torch.cuda.is_initialized():
        return
    for index in range(torch.cuda.device_count()):
        if torch.cuda.max_memory_reserved(index) > 0:
            yield index


def _peak(torch: Any, index: int) -> AllocatorPeak:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    uuid = getattr(properties, "uuid", None)
    return AllocatorPeak(
        uuid=None if uuid is None else str(uuid),
        device=f"cuda:{index}",
        peak_allocated_bytes=int(torch.cuda.max_memory_allocated(index)),
        peak_reserved_bytes=int(torch.cuda.max_memory_reserved(index)),
        reserved_bytes=int(torch.cuda.memory_reserved(index)),
        used_on_device_bytes=int(total) - int(free),
        pci=_pci(properties),
        integrated=bool(getattr(properties, "is_integrated", False)),
    )


def _pci(properties: Any) -> str | None:
    """The bus address, which newer versions of torch tell in three numbers."""
    domain, bus, slot = (
        getattr(properties, name, None) for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")
    )
    if domain is None or bus is None or slot is None:
        return None
    return f"{domain:08x}:{bus:02x}:{slot:02x}.0"
