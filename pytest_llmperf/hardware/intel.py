"""Which Intel GPUs can be used here?

The GPU inside an Intel processor always sits at PCI address 0000:00:02.0; a card sits elsewhere.
Sources: the kernel's Documentation/gpu/i915.rst and xe, and Intel's table of PCI device ids.
"""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.hardware import drm, files
from pytest_llmperf.hardware.facts import Accelerator

_VENDOR_ID = 0x8086
_PROCESSOR_GRAPHICS = "0000:00:02.0"
_NAMES = {
    0x0BD5: "Data Center GPU Max 1550",
    0x0BDA: "Data Center GPU Max 1100",
    0x56A0: "Arc A770",
    0x56A1: "Arc A750",
    0x56A2: "Arc A580",
    0x56A5: "Arc A380",
    0x56A6: "Arc A310",
    0x56C0: "Data Center GPU Flex 170",
    0x56C1: "Data Center GPU Flex 140",
    0xE20B: "Arc B580",
    0xE20C: "Arc B570",
}


def detect(root: Path) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """Intel GPUs that this process can open, and why it cannot use the others."""
    found: list[Accelerator] = []
    findings: list[str] = []
    for card in drm.cards(root, _VENDOR_ID):
        integrated = card.pci == _PROCESSOR_GRAPHICS
        name = _NAMES.get(card.device_id or 0, f"GPU {card.device_id or 0:#06x}")
        what = f"Intel GPU {name} ({card.pci or card.folder.name})"
        trouble = drm.unusable(root, what, f"dri/{card.render_node or card.folder.name}")
        if trouble and not integrated:
            findings.append(trouble)
        if trouble:  # nobody misses the display GPU of a server or a container
            continue
        memory_bytes = None if integrated else _memory_bytes(card)
        if memory_bytes is None and not integrated:
            findings.append(f"{what}: driver {card.driver} does not tell its memory size")
        found.append(
            Accelerator(
                kind="xpu",
                vendor="intel",
                name=name,
                integrated=integrated,
                memory_bytes=memory_bytes,
                driver=card.driver,
                pci=card.pci,
            )
        )
    return tuple(found), tuple(findings)


def _memory_bytes(card: drm.Card) -> int | None:
    """Local memory, where the driver states it: i915 at the card, early xe at its tiles."""
    stated = files.integer(card.folder / "lmem_total_bytes")
    if stated is not None:
        return stated
    tiles = [
        files.number(files.text(path))
        for path in sorted(card.device.glob("tile*/physical_vram_size_bytes"))
    ]
    known = [size for size in tiles if size is not None]
    return sum(known) if known else None
