"""May a model be loaded here and now? Asked before every load, and answered by arithmetic."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_llmperf.backends import Backend, BackendOptions
from pytest_llmperf.backends.openai_options import OpenAIOptions
from pytest_llmperf.backends.transformers import TransformersOptions
from pytest_llmperf.fit.devices import largest
from pytest_llmperf.fit.footprint import Footprint
from pytest_llmperf.fit.gpu_support import gpu_shares
from pytest_llmperf.fit.of_options import footprint_of
from pytest_llmperf.fit.preflight import Fit, preflight
from pytest_llmperf.fit.room import Room, room_here
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.memory import address_space_limit_bytes, from_linux
from pytest_llmperf.models import ModelFiles, ModelSpec
from pytest_llmperf.models.layers import MOST_LAYERS


class DoesNotFit(Exception):
    """The model needs more memory than there is; the message is the arithmetic."""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One way of running a model that was not taken."""

    what: str
    why: str


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What a load was expected to take."""

    footprint: Footprint
    fit: Fit
    reasons: tuple[str, ...]
    chosen: str = ""
    """Under ``fit=True``, what was chosen."""
    rejected: tuple[Rejected, ...] = ()
    """And what would have been better, with the reasons."""


def expect(
    spec: ModelSpec, files: ModelFiles | None, options: BackendOptions, room: Room
) -> Expectation | None:
    """What these options would take of ``room``; None: of this engine or model nothing is known.

    ``files`` None: of a synthetic model that is not built yet.
    """
    if isinstance(options, OpenAIOptions) and room.has_gpu:
        return None  # whether its build uses the GPU, only the server knows
    if isinstance(options, TransformersOptions) and options.device_map is not None:
        footprint = _shared(spec, files, options, room)
    else:
        footprint = footprint_of(spec, files, options, gpu_shares(options, room))
    if footprint is None:
        return None
    found = preflight(footprint, room)
    return Expectation(footprint=footprint, fit=found.fit, reasons=found.reasons)


def require_fit(expectation: Expectation | None) -> None:
    """Raises DoesNotFit."""
    if expectation is not None and expectation.fit is Fit.NO:
        raise DoesNotFit("; ".join(expectation.reasons))


def can_be_asked(python: str | None, hardware: Hardware) -> bool:
    """Whether a load can be judged before it: of another Python's engine nobody knows its GPUs."""
    return python is None or not room_here(hardware).has_gpu


def require_room_at_most(
    spec: ModelSpec, backend: Backend, options: BackendOptions, hardware: Hardware
) -> None:
    """Before a synthetic model is built: might it fit if nothing else ran here? Raises DoesNotFit.

    Files that are there already are asked right before their load.
    """
    if not spec.is_synthetic:
        return
    wanted = spec.quantization or options.default_quantization(backend.default_quantization)
    spec = msgspec.structs.replace(spec, quantization=wanted)
    room = msgspec.structs.replace(
        room_here(hardware), ram=_within_limits(hardware.memory.capacity_bytes)
    )
    require_fit(expect(spec, None, options, room))


def room_now(hardware: Hardware) -> Room:
    """What is free now; of GPUs, all of their memory."""
    memory = hardware.memory
    if hardware.os_family == "linux":
        memory, _ = from_linux(Path("/"))  # what was free when the run began is gone
    room = room_here(hardware)
    return msgspec.structs.replace(room, ram=_within_limits(memory.usable_bytes))


def _within_limits(size: int) -> int:
    """No more than the process may map at all."""
    limit = address_space_limit_bytes()
    return size if limit is None else min(size, limit)


def _shared(
    spec: ModelSpec, files: ModelFiles | None, options: BackendOptions, room: Room
) -> Footprint | None:
    """Where accelerate shares the layers: as many on GPUs as fit there."""
    shares = gpu_shares(options, room)
    only_gpus = msgspec.structs.replace(room, ram=None)

    def on(layers: int) -> Footprint | None:
        return footprint_of(spec, files, options, shares, gpu_layers=layers)

    def fits(layers: int) -> bool:
        found = on(layers)
        return found is not None and preflight(found, only_gpus).fit is Fit.YES

    return on(largest(fits, MOST_LAYERS) if on(0) is not None else 0)
