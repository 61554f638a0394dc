"""What memory is there to fit a model into: here, on a device by name, or as the user states it?"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NoReturn

import msgspec

from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.visible import visible

GIB = 1 << 30
_GB = 10**9


class UnknownDevice(ValueError):
    """No device profile has this name; the message lists them."""


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device as its maker states it. Memory in GiB, bandwidth in 10⁹ bytes/s."""

    title: str
    source: str
    ram_gb: float | None = None
    vram_gb: float | None = None
    shared_gb: float | None = None
    """One pool for processor and GPU."""
    kept_free_gb: float = 0.0
    """What the system needs of main, or shared, memory."""
    bandwidth_gb_s: float
    """Of the memory that the weights would be read from."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a device reads and computes; None: not known."""

    bandwidth: float | None = None
    """Of its memory, in bytes/s."""
    flops: float | None = None
    """In floating-point operations/s."""


UNKNOWN = Limits()


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Memory that a model may take, in bytes."""

    name: str
    ram: int | None
    """Main memory, or the pool that a GPU shares; None: not stated, taken for enough."""
    vram: tuple[int, ...] = ()
    """Of each GPU with memory of its own."""
    is_shared: bool = False
    """Whether a GPU computes in ``ram``."""
    cpu_limits: Limits = Limits()
    gpu_limits: Limits = Limits()

    @property
    def has_gpu(self) -> bool:
        """Whether layers can be put on a GPU."""
        return bool(self.vram) or self.is_shared


def room_here(hardware: Hardware, cpu: Limits = UNKNOWN, gpu: Limits = UNKNOWN) -> Room:
    """What is free on this machine now; of its GPUs, all of their memory."""
    gpus = visible(hardware.gpus, os.environ).gpus
    return Room(
        name="here",
        ram=hardware.memory.usable_bytes,
        vram=tuple(each.memory_bytes for each in gpus if each.memory_bytes is not None),
        is_shared=bool(gpus) and all(each.integrated for each in gpus),
        cpu_limits=cpu,
        gpu_limits=gpu,
    )


def stated_room(
    ram_gb: float | None = None,
    vram_gb: float | Sequence[float] = (),
    bandwidth_bytes_per_s: float | None = None,
) -> Room:
    """Free main memory, and the memory of each GPU, in GiB; and the bandwidth of the latter.

    Without a GPU the bandwidth is that of main memory.
    """
    gpus = (vram_gb,) if isinstance(vram_gb, int | float) else tuple(vram_gb)
    limits = Limits(bandwidth=bandwidth_bytes_per_s)
    return Room(
        name="stated",
        ram=round(ram_gb * GIB) if ram_gb else None,
        vram=tuple(round(each * GIB) for each in gpus),
        cpu_limits=UNKNOWN if gpus else limits,
        gpu_limits=limits if gpus else UNKNOWN,
    )


def room_of(name: str) -> Room:
    """That of a device by name. Raises UnknownDevice, naming the nearest."""
    profile = _profiles().get(name.strip().lower())
    if profile is None:
        _refuse(name)
    limits = Limits(bandwidth=profile.bandwidth_gb_s * _GB)
    on_gpu = profile.vram_gb is not None or profile.shared_gb is not None
    free = (profile.shared_gb or profile.ram_gb or 0.0) - profile.kept_free_gb
    return Room(
        name=profile.title,
        ram=round(free * GIB) if profile.shared_gb or profile.ram_gb else None,
        vram=(round(profile.vram_gb * GIB),) if profile.vram_gb else (),
        is_shared=profile.shared_gb is not None,
        cpu_limits=limits if profile.vram_gb is None else Limits(),
        gpu_limits=limits if on_gpu else Limits(),
    )


def known() -> tuple[str, ...]:
    """Names of all profiles."""
    return tuple(_profiles())


def _refuse(name: str) -> NoReturn:
    near = difflib.get_close_matches(name.strip().lower(), known(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UnknownDevice(f"no device is called {name!r}.{hint} Known: {', '.join(known())}.")


@cache
def _profiles() -> dict[str, Profile]:
    import yaml  # ten milliseconds that only who asks for a device should pay

    text = resources.files("pytest_llmperf.fit").joinpath("devices.yaml").read_text("utf-8")
    return msgspec.convert(yaml.safe_load(text), dict[str, Profile])
