"""Which graphics cards does the Linux kernel show, and may this process use them?

A container sees the host's cards under /sys even when it was not given their device files, and
a user outside the group ``render`` sees them and cannot open them.
Source: the kernel's Documentation/gpu/drm-uapi.rst (primary and render nodes).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.hardware import files


@dataclass(frozen=True)
class Card:
    """One entry /sys/class/drm/cardN."""

    folder: Path
    pci: str | None
    device_id: int | None
    revision: int | None
    render_node: str | None
    """Name under /dev/dri, such as ``renderD128``."""
    driver: str | None

    @property
    def device(self) -> Path:
        """The folder of the PCI device."""
        return self.folder / "device"


def cards(root: Path, vendor_id: int) -> Iterator[Card]:
    """The cards of one PCI vendor, in the kernel's order."""
    found = [
        folder
        for folder in (root / "sys/class/drm").glob("card*")
        if re.fullmatch(r"card\d+", folder.name)  # card0-DP-1 is a connector
    ]
    for folder in sorted(found, key=lambda each: int(each.name.removeprefix("card"))):
        device = folder / "device"
        if files.integer(device / "vendor") != vendor_id:
            continue
        about = dict(
            line.split("=", 1)
            for line in (files.text(device / "uevent") or "").splitlines()
            if "=" in line
        )
        yield Card(
            folder=folder,
            pci=about.get("PCI_SLOT_NAME"),
            device_id=files.integer(device / "device"),
            revision=files.integer(device / "revision"),
            render_node=next((p.name for p in sorted((device / "drm").glob("renderD*"))), None),
            driver=about.get("DRIVER"),
        )


def unusable(root: Path, what: str, device_file: str) -> str | None:
    """Why the card cannot be used through ``device_file`` (relative to /dev); None if it can."""
    path = root / "dev" / device_file
    if not path.exists():
        return (
            f"{what} is there, but /dev/{device_file} is not: load its driver, or give the "
            f"container the device (docker run --device /dev/{device_file})"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        return (
            f"{what} is there, but this user may not open /dev/{device_file}: add the user to "
            "the groups render and video, and log in again"
        )
    return None
