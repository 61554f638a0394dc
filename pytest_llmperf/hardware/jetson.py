"""Is this an NVIDIA Jetson, and which one?

A Jetson names itself in its device tree, not through the driver library. Its GPU shares one pool
of memory with the processor.
Sources: NVIDIA's Jetson Linux Developer Guide (module and board names, ``/etc/nv_tegra_release``),
the kernel's Documentation/devicetree/bindings/arm/tegra.yaml (``compatible``), and NVIDIA's table
of CUDA compute capabilities.
"""

from __future__ import annotations

import re
from pathlib import Path

from pytest_llmperf.hardware import files, names
from pytest_llmperf.hardware.facts import Accelerator

_COMPUTE_CAPABILITY = {
    "tegra210": "5.3",  # Nano, TX1
    "tegra186": "6.2",  # TX2
    "tegra194": "7.2",  # Xavier
    "tegra234": "8.7",  # Orin
    "tegra264": "11.0",  # Thor
}
_BOARD_CODE_NAMES = {"quill": "TX2", "jetson_tx1": "TX1", "Jetson-AGX": "AGX Xavier"}
_KIT = re.compile(
    r"\s*\b(?:Engineering Reference|Developer Kit|DevKit|Reference Board).*", re.IGNORECASE
)


def detect(root: Path) -> tuple[str, Accelerator] | None:
    """Device identity such as ``jetson-orin-nano`` and its GPU; None on any other machine."""
    tree = root / "proc/device-tree"
    compatible = (files.text(tree / "compatible") or "").replace("\0", " ").split()
    chips = [item.removeprefix("nvidia,") for item in compatible if item.startswith("nvidia,")]
    chip = next((chip for chip in chips if chip in _COMPUTE_CAPABILITY), None)
    if chip is None:
        return None
    model = files.text(tree / "model") or ""
    name = _name(model) or chip
    accelerator = Accelerator(
        kind="cuda",
        vendor="nvidia",
        name=name,
        integrated=True,
        compute_capability=_COMPUTE_CAPABILITY[chip],
        driver=_release(root),
    )
    return names.slug(name), accelerator


def _name(model: str) -> str:
    """``NVIDIA Jetson Orin Nano Developer Kit`` → ``Jetson Orin Nano``."""
    short = _KIT.sub("", names.normalized(_BOARD_CODE_NAMES.get(model, model)))
    if not short or short.startswith(("Jetson", "IGX", "DRIVE")):
        return short
    return f"Jetson {short}"


def _release(root: Path) -> str | None:
    """``# R36 (release), REVISION: 4.3, …`` → ``L4T 36.4.3``."""
    line = files.text(root / "etc/nv_tegra_release") or ""
    stated = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", line)
    return f"L4T {stated[1]}.{stated[2]}" if stated else None
