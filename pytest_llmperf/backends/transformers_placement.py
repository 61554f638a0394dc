"""On which devices does transformers keep the weights of a model, and which one computes?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused

if TYPE_CHECKING:
    from pytest_llmperf.backends.transformers import TransformersOptions

_ALLOWED = re.compile(r"(?P<device>\d+|cpu)=(?P<size>\d+(\.\d+)?(GiB|MiB|GB|MB))")


def gpus_of(wanted: str) -> int | None:
    """How many GPUs compute for a ``device``; None: it is named by its number."""
    if wanted == "cpu":
        return 0
    return 1 if wanted in {"auto", "cuda", "mps"} else None


def choose_device(torch: Any, wanted: str) -> Any:
    """``auto``: the first accelerator, else the CPU; a torch.device."""
    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def sharing(options: TransformersOptions) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for several devices. Raises EngineRefused."""
    if options.device_map is None:
        for name in ("max_memory", "offload_folder"):
            if getattr(options, name) is not None:
                raise EngineRefused(f"{name} needs a device_map: give device_map='auto' too")
        return {}
    if options.device != "auto":
        raise EngineRefused(
            f"device={options.device} and device_map={options.device_map} contradict each other: "
            "leave one out"
        )
    try:
        allowed = read_max_memory(options.max_memory) if options.max_memory else None
    except ValueError as error:
        raise EngineRefused(str(error)) from None
    shared: dict[str, Any] = {"device_map": options.device_map, "max_memory": allowed}
    if options.offload_folder is not None:
        shared["offload_folder"] = options.offload_folder
    return shared


def read_max_memory(text: str) -> dict[int | str, str]:
    """``0=6GiB, cpu=16GiB`` as accelerate takes it. Raises ValueError."""
    found: dict[int | str, str] = {}
    for part in text.split(","):
        match = _ALLOWED.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"max_memory {part.strip()!r} is not of the form 0=6GiB, cpu=16GiB")
        device = match["device"]
        found[int(device) if device.isdecimal() else device] = match["size"]
    return found


def computing_device(torch: Any, model: Any) -> Any:
    """Where the inputs of a shared model belong; a layer on the disk is on ``meta``."""
    held = (each.device for each in model.parameters() if each.device.type != "meta")
    return next(held, None) or choose_device(torch, "auto")


def where(model: Any, device: Any, options: TransformersOptions) -> str:
    """Where the layers are: one device, ``cpu and gpu``, or with what else is ``on disk``.

    Raises EngineRefused for layers on a disk that was not asked for, and the other way round.
    """
    places = {str(each) for each in getattr(model, "hf_device_map", {}).values()}
    if "disk" in places and options.offload_folder is None:
        raise EngineRefused(
            f"max_memory={options.max_memory} leaves layers to the disk: allow more, or ask for "
            "the disk with offload_folder=FOLDER"
        )
    if options.offload_folder is not None and "disk" not in places:
        raise EngineRefused(
            f"offload_folder={options.offload_folder} is not used: all layers fit into "
            f"max_memory={options.max_memory}; allow less, or leave it out"
        )
    memory = places - {"disk"}
    held = "cpu and gpu" if "cpu" in memory and len(memory) > 1 else str(device)
    return f"{held} and disk" if "disk" in places else held
