"""Where do the layers of a model go in a room, so that as many as possible are on its GPUs?"""

from __future__ import annotations

import msgspec

from pytest_llmperf.fit.devices import Devices, largest, shares_of
from pytest_llmperf.fit.engines import PlannedEngine
from pytest_llmperf.fit.footprint import Footprint
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.fit.preflight import Fit, Preflight, preflight
from pytest_llmperf.fit.room import Room

_ORDER = {Fit.YES: 0, Fit.TIGHT: 1, Fit.NO: 2}


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """One way of sharing a model among devices, and whether there is room for it."""

    devices: Devices
    all_layers: int
    """The output counted as one of them."""
    footprint: Footprint
    preflight: Preflight

    @property
    def where(self) -> str:
        """``CPU``, ``GPU``, ``2 GPUs``, ``20/33 on GPU``: so many of all layers."""
        if not self.devices.gpus:
            return "CPU"
        gpus = "GPU" if self.devices.gpus == 1 else f"{self.devices.gpus} GPUs"
        if self.devices.gpu_layers >= self.all_layers:
            return gpus
        return f"{self.devices.gpu_layers}/{self.all_layers} on {gpus}"


def place(
    engine: PlannedEngine, size: ModelSize, quantization: str, load: Load, room: Room
) -> Placement:
    """The most layers on GPUs that fit; without a fit, what comes nearest to it.

    A tight fit with all layers on GPUs loses against one that surely fits with fewer.
    """
    all_layers = len(size.weights.layers) + 1
    shares = shares_of(room) if room.has_gpu and not engine.cpu_only else ()

    def on(layers: int) -> Placement:
        devices = Devices(gpu_layers=layers, shares=shares)
        footprint = engine.footprint(size, quantization, load, devices)
        return Placement(
            devices=devices,
            all_layers=all_layers,
            footprint=footprint,
            preflight=preflight(footprint, room),
        )

    if not shares:
        return on(0)
    whole = on(all_layers)
    if whole.preflight.fit is Fit.YES or engine.all_on_gpus:
        return whole
    if room.is_shared:  # layers that move within one pool change nothing
        return whole
    only_gpus = msgspec.structs.replace(room, ram=None)
    fewer = 0
    if engine.can_split:
        fewer = largest(
            lambda layers: preflight(on(layers).footprint, only_gpus).fit is Fit.YES, all_layers
        )
    return min(on(fewer), whole, key=lambda each: _ORDER[each.preflight.fit])
