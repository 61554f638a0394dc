"""How much of each GPU's memory did the worker take, and how is that known?

What must fit on a card is the allocator's peak plus what the worker holds beside it: CUDA's
context, the kernels it has loaded, captured graphs. Those only grow, so they are read once, at the
end, with the worker at rest. NVML keeps no peak of a process. Cards are told apart by UUID or bus
address: NVML's order is not that of CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pytest_llmperf.backends.device import AllocatorPeak
from pytest_llmperf.hardware import names
from pytest_llmperf.hardware.gpu_watch import GpuReading, GpuSnapshot
from pytest_llmperf.measure.byte_figure import ByteFigure
from pytest_llmperf.measure.gpu_neighbours import (
    TOLERANCE_BYTES,
    Neighbour,
    Occupants,
    find_gpu,
    label,
    neighbour,
    occupants,
    sees_host_pids,
)

_ALLOCATOR = "peak of torch's allocator"
_DIFFERENCE = "the card's difference against its idle reading"
_ONE_POOL = "one pool with RAM: the model's memory is RAM, and there is no VRAM to add to it"


class DeviceMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker took of one GPU."""

    uuid: str | None
    """``GPU-…`` or ``MIG-…`` where NVML knows the card, else as CUDA writes it."""
    name: str | None
    device: str | None
    """The worker's own name for it, ``cuda:0``; None where the engine does not tell."""
    integrated: bool
    """The GPU shares RAM: ``vram`` is None then."""
    total_bytes: int | None
    used_on_device_bytes: int | None
    """In use on the card at the end, by all processes."""
    difference_bytes: int | None
    """The same against the idle reading."""
    worker_bytes: int | None
    """What NVML counted for the worker's processes at the end."""
    vram: ByteFigure | None
    """What must fit on this card; None: ``note`` says why."""
    allocated: ByteFigure | None
    reserved: ByteFigure | None
    foreign: list[Neighbour]
    """Compute processes on the card that are not the worker's."""
    note: str = ""
    """What is missing in this, and why."""


@dataclass(frozen=True)
class Readings:
    """What was read of the GPUs around one worker that computes on a GPU."""

    idle: GpuSnapshot | None
    """Before it was started."""
    after: GpuSnapshot | None
    """At the end, while it is alive and at rest."""
    own_pids: frozenset[int]
    """The worker and its children."""
    trouble: str | None = None
    """Why a snapshot is missing."""
    root: Path = Path("/")


@dataclass(frozen=True)
class _Card:
    """One GPU from all sides."""

    peak: AllocatorPeak | None
    idle: GpuReading | None
    now: GpuReading | None
    there: Occupants | None
    missing: str
    """Why there is no reading, or none to compare with."""

    @property
    def difference_bytes(self) -> int | None:
        if self.now is None or self.idle is None:
            return None
        if self.now.used_bytes is None or self.idle.used_bytes is None:
            return None
        return self.now.used_bytes - self.idle.used_bytes

    @property
    def used_bytes(self) -> int | None:
        if self.now is not None and self.now.used_bytes is not None:
            return self.now.used_bytes
        return None if self.peak is None else self.peak.used_on_device_bytes

    @property
    def integrated(self) -> bool:
        told = self.now or self.idle
        return (told is not None and told.integrated) or (
            self.peak is not None and self.peak.integrated
        )

    @property
    def is_touched(self) -> bool:
        """Whether the worker holds anything here, as far as the driver shows it."""
        return (self.there is not None and bool(self.there.own)) or (
            (self.difference_bytes or 0) > TOLERANCE_BYTES
        )


def device_memory(peaks: Sequence[AllocatorPeak], readings: Readings) -> list[DeviceMemory]:
    """What the worker took of each GPU that it uses.

    ``peaks``: over load and requests; empty for an engine without an allocator that tells. Call it
    only for an engine that computes on a GPU: what grows on a card is then taken for its own.
    """
    host_pids = sees_host_pids(readings.root)
    cards = [_card(peak, None, readings, host_pids=host_pids) for peak in peaks]
    known = {id(card.now) for card in cards}
    others = [
        _card(None, gpu, readings, host_pids=host_pids)
        for gpu in (readings.after.gpus if readings.after else ())
        if id(gpu) not in known
    ]
    if peaks:
        cards += [card for card in others if card.there is not None and card.there.own]
    else:
        listed = [card for card in others if card.there is not None and card.there.own]
        touched = listed or [card for card in others if card.is_touched]
        cards += touched or [card for card in others if card.integrated]
    return [_memory(card, readings.root, host_pids=host_pids) for card in cards]


def _card(
    peak: AllocatorPeak | None, now: GpuReading | None, readings: Readings, *, host_pids: bool
) -> _Card:
    if peak is not None:
        now = find_gpu(readings.after, peak.uuid, peak.pci)
        idle = find_gpu(readings.idle, peak.uuid, peak.pci)
    else:
        assert now is not None
        idle = find_gpu(readings.idle, now.uuid, now.pci)
    if now is not None:
        missing = now.trouble or (idle and idle.trouble) or "there is no idle reading of this card"
    elif readings.after is None:
        missing = readings.trouble or "the GPUs were not read"
    else:
        missing = "NVML knows no card with this UUID or bus address"
    there = None
    if now is not None:
        there = occupants(now, idle, readings.own_pids, host_pids=host_pids)
    return _Card(peak, idle, now, there, missing)


def _memory(card: _Card, root: Path, *, host_pids: bool) -> DeviceMemory:
    peak, now = card.peak, card.now
    vram = None if card.integrated else _vram(card)
    note = card.missing if vram is None else ""
    if vram is None and card.difference_bytes is not None:
        note = "others gave memory back meanwhile, so that the card's difference tells nothing"
    allocated = reserved = None
    if peak is not None:
        allocated = _exact(peak.peak_allocated_bytes, "torch.cuda.max_memory_allocated")
        reserved = _exact(peak.peak_reserved_bytes, "torch.cuda.max_memory_reserved")
    return DeviceMemory(
        uuid=now.uuid if now else peak.uuid if peak else None,
        name=names.normalized(now.name) if now else None,
        device=peak.device if peak else None,
        integrated=card.integrated,
        total_bytes=now.total_bytes if now else None,
        used_on_device_bytes=None if card.integrated else card.used_bytes,
        difference_bytes=card.difference_bytes,
        worker_bytes=card.there.own_bytes if card.there else None,
        vram=vram,
        allocated=allocated,
        reserved=reserved,
        foreign=[
            neighbour(process, root, host_pids=host_pids)
            for process in (card.there.foreign if card.there else ())
        ],
        note=_ONE_POOL if card.integrated else note,
    )


def _exact(figure_bytes: int, how: str) -> ByteFigure:
    return ByteFigure(bytes=figure_bytes, kind="exact", how=how)


def _vram(card: _Card) -> ByteFigure | None:
    return _without_allocator(card) if card.peak is None else _with_allocator(card, card.peak)


def _with_allocator(card: _Card, peak: AllocatorPeak) -> ByteFigure:
    """Peak allocated + what the worker held at the end − what the allocator held then."""
    allocated, reserved = peak.peak_allocated_bytes, peak.reserved_bytes
    own = None if card.there is None else card.there.own_bytes
    if own is not None and own >= reserved:
        return _exact(allocated + own - reserved, f"{_ALLOCATOR} + the rest of the worker by NVML")
    difference = card.difference_bytes
    if difference is not None and difference >= reserved:
        return ByteFigure(
            bytes=allocated + difference - reserved,
            kind="sampled",
            how=f"{_ALLOCATOR} + the rest by {_DIFFERENCE}{_shared(card)}",
            low_bytes=allocated,
        )
    everything = max(peak.used_on_device_bytes, reserved)
    why = card.missing
    if difference is not None:
        why = "others gave memory back meanwhile"
    return ByteFigure(
        bytes=allocated + everything - reserved,
        kind="bound",
        how=f"not below the {_ALLOCATOR}, not above it + all else on the card: {why}",
        low_bytes=allocated,
    )


def _without_allocator(card: _Card) -> ByteFigure | None:
    """The end of the region, which is not its peak."""
    own = None if card.there is None else card.there.own_bytes
    difference = card.difference_bytes
    shared = card.there is None or card.there.shared
    if own is not None and (shared or difference is None or difference < own):
        how = "what NVML counts for the worker at the end; no peak is kept"
        return ByteFigure(bytes=own, kind="sampled", how=how)
    if difference is None or difference < 0:  # below zero, others gave memory back
        return None
    how = f"{_DIFFERENCE} at the end; no peak is kept{_shared(card)}"
    # What grew may be somebody else's.
    low_bytes = 0 if shared else None
    return ByteFigure(bytes=difference, kind="sampled", how=how, low_bytes=low_bytes)


def _shared(card: _Card) -> str:
    if card.there is None:
        return "; whether others compute there is not known"
    return "; shared with another process" if card.there.shared else ""


def device_figures(devices: Sequence[DeviceMemory]) -> dict[str, ByteFigure]:
    """``vram``, ``vram_allocated``, ``vram_reserved`` of the fullest card; absent if not known.

    Not the sum: a limit says what a card must hold, and no card holds the sum of two.
    """
    figures = {}
    for metric, field in (
        ("vram", "vram"),
        ("vram_allocated", "allocated"),
        ("vram_reserved", "reserved"),
    ):
        told = [(getattr(each, field), each) for each in devices if getattr(each, field)]
        if told:
            figure, card = max(told, key=lambda pair: pair[0].bytes)
            figures[metric] = _of_several(figure, card, len(told), len(devices))
    return figures


def _of_several(figure: ByteFigure, card: DeviceMemory, told: int, cards: int) -> ByteFigure:
    if cards == 1:
        return figure
    unknown = f", {cards - told} not known" if told < cards else ""
    which = f"the fullest of {cards} GPUs ({card.device or card.uuid}){unknown}: "
    return msgspec.structs.replace(figure, how=which + figure.how)


def why_absent(devices: Sequence[DeviceMemory], readings: Readings) -> str:
    """Why there is no ``vram`` figure, for a worker that computes on a GPU."""
    notes = dict.fromkeys(each.note for each in devices if each.vram is None and each.note)
    if notes:
        return "; ".join(notes)
    if readings.trouble or readings.after is None:
        return readings.trouble or "the GPUs were not read"
    lost = [f"{label(gpu)} {gpu.trouble}" for gpu in readings.after.gpus if gpu.trouble]
    if lost:
        return "; ".join(lost)
    return "no card's memory grew, and the driver lists none of the worker's processes"
