"""Which AMD GPUs can be used here?

Sources: the kernel's Documentation/gpu/amdgpu/driver-misc.rst (``mem_info_vram_total``,
``unique_id``, ``product_name``), the KFD topology that ROCm itself reads
(``gfx_target_version``, ``drm_render_minor``), libdrm's ``amdgpu.ids`` for marketing names, and
LLVM's AMDGPU usage guide for which targets are processors with a GPU (APU).
"""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.hardware import drm, files, names
from pytest_llmperf.hardware.facts import Accelerator

_VENDOR_ID = 0x1002
_MI300A_DEVICE_ID = 0x74A0
_APUS = frozenset(
    {
        *("gfx902", "gfx909", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1103"),
        *("gfx1150", "gfx1151", "gfx1152", "gfx1153"),
    }
)


def detect(root: Path) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """AMD GPUs that ROCm can use, and why it cannot use the others."""
    found: list[Accelerator] = []
    findings: list[str] = []
    targets = _targets(root)
    for card in drm.cards(root, _VENDOR_ID):
        name = _name(root, card)
        what = f"AMD GPU {name} ({card.pci or card.folder.name})"
        trouble = (
            drm.unusable(root, what, f"dri/{card.render_node or card.folder.name}")
            or drm.unusable(root, what, "kfd")
            or _unknown_target(what, card, targets)
        )
        if trouble:
            findings.append(trouble)
        else:
            found.append(_accelerator(root, card, name, targets[card.render_node or ""]))
    return tuple(found), tuple(findings)


def _accelerator(root: Path, card: drm.Card, name: str, target: str) -> Accelerator:
    integrated = target in _APUS or card.device_id == _MI300A_DEVICE_ID
    return Accelerator(
        kind="rocm",
        vendor="amd",
        name=name,
        integrated=integrated,
        memory_bytes=None if integrated else files.integer(card.device / "mem_info_vram_total"),
        uuid=files.text(card.device / "unique_id") or None,
        compute_capability=target,
        driver=files.text(root / "sys/module/amdgpu/version") or card.driver,
        pci=card.pci,
    )


def _unknown_target(what: str, card: drm.Card, targets: dict[str, str]) -> str | None:
    if card.render_node in targets:
        return None
    return (
        f"{what} is unknown to the kernel's compute driver (no node in /sys/class/kfd): "
        "this model or kernel does not support ROCm"
    )


def _targets(root: Path) -> dict[str, str]:
    """Render node → ROCm target, such as ``renderD128`` → ``gfx1100``."""
    found: dict[str, str] = {}
    for properties in (root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties"):
        stated = files.pairs(properties)
        version = stated.get("gfx_target_version", 0)
        if version:
            found[f"renderD{stated.get('drm_render_minor')}"] = _target(version)
    return found


def _target(version: int) -> str:
    """110000 → ``gfx1100``, 90010 → ``gfx90a``: major, then minor and stepping in hex."""
    major, rest = divmod(version, 10_000)
    minor, stepping = divmod(rest, 100)
    return f"gfx{major}{minor:x}{stepping:x}"


def _name(root: Path, card: drm.Card) -> str:
    """Marketing name: server cards carry it, libdrm's table knows the others."""
    stated = files.text(card.device / "product_name") or _name_in_table(root, card)
    if stated:
        return names.normalized(stated)
    return f"GPU {card.device_id or 0:#06x}"


def _name_in_table(root: Path, card: drm.Card) -> str | None:
    """Lines of the table: device id, revision id, name; the ids in hex without 0x."""
    wanted = (card.device_id, card.revision)
    for line in (files.text(root / "usr/share/libdrm/amdgpu.ids") or "").splitlines():
        fields = [field.strip() for field in line.split(",", 2)]
        if len(fields) == 3 and wanted == (
            files.number(f"0x{fields[0]}"),
            files.number(f"0x{fields[1]}"),
        ):
            return fields[2]
    return None
