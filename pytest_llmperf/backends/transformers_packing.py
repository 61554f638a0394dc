"""Into what are the weights of a transformers model packed, by whom, and how small are they?"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmperf.backends.protocol import EngineMissing, EngineRefused

if TYPE_CHECKING:
    from pytest_llmperf.backends.transformers import TransformersOptions

Packing = Literal["nf4", "fp4", "int8", "quanto-int8", "quanto-int4", "torchao-int8"]
"""``nf4``, ``fp4`` and ``int8`` (LLM.int8()) are those of bitsandbytes."""

FOUR_BIT = ("nf4", "fp4")
_BLOCK_WEIGHTS = 64
_PACKAGES = {"quanto": "optimum-quanto", "torchao": "torchao"}
_UNPACKERS = {"gptq": ("gptqmodel", "optimum"), "awq": ("gptqmodel",)}
"""What transformers needs for a folder that is packed already, by its ``quant_method``."""


def package_of(packing: Packing) -> str:
    """The distribution that does it."""
    return _PACKAGES.get(packing.partition("-")[0], "bitsandbytes")


def missing_for(packing: Packing) -> str:
    """What would have to be installed, and how; empty: nothing. Imports nothing."""
    package = package_of(packing)
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{package} is not installed: pip install {package}"
    return ""


def require_unpackers(folder: str) -> None:
    """Before a folder is loaded that was packed by others. Raises EngineMissing."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    method = str((config.get("quantization_config") or {}).get("quant_method"))
    for package in _UNPACKERS.get(method, ()):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise EngineMissing(
                f"{folder} is packed with {method}, and {package} is not installed: "
                "pip install 'pytest-llmperf[gptq]'"
            ) from None


def unpacker(model: Any) -> str:
    """By which kernels of gptqmodel packed weights are multiplied; empty: by none."""
    kernels = {type(each).__name__ for each in model.modules() if hasattr(each, "qweight")}
    return ", ".join(sorted(kernels))


def quantization_config(packing: Packing, compute_dtype: Any) -> Any:
    """What ``from_pretrained`` takes as ``quantization_config``. Raises EngineMissing.

    ``compute_dtype``: what 4-bit weights of bitsandbytes are multiplied in, a torch.dtype.
    """
    import transformers

    package = package_of(packing)
    try:
        if packing in FOUR_BIT:
            import bitsandbytes

            return transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=packing,
                bnb_4bit_compute_dtype=compute_dtype,
            )
        if packing == "int8":
            import bitsandbytes  # noqa: F401 - as above

            return transformers.BitsAndBytesConfig(load_in_8bit=True)
        if packing == "torchao-int8":
            from torchao.quantization import Int8WeightOnlyConfig

            return transformers.TorchAoConfig(quant_type=Int8WeightOnlyConfig())
        import optimum.quanto  # noqa: F401 - as above

        return transformers.QuantoConfig(weights=packing.partition("-")[2])
    except (ImportError, OSError) as error:
        raise EngineMissing(
            f"quantize={packing} needs {package}, which cannot be imported ({error}): "
            f"pip install {package}"
        ) from error


def require_whole_blocks(model: Any) -> None:
    """Bitsandbytes 0.50 packs other rows on a CPU, and cannot multiply with them.

    Raises EngineRefused for a matrix of 4 bits whose rows are no multiple of its blocks.
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit" and module.in_features % _BLOCK_WEIGHTS:
            raise EngineRefused(
                f"{name} has rows of {module.in_features} weights, and on a CPU bitsandbytes "
                f"multiplies 4-bit ones in blocks of {_BLOCK_WEIGHTS} only: use quantize=int8, "
                "or a GPU"
            )


def computing_caveats(model: Any) -> list[str]:
    """Of 4-bit weights that are not multiplied in the type that was asked for.

    On a CPU with AVX512-BF16 the kernel of bitsandbytes 0.50 takes bfloat16 only, and its
    ``Linear4bit`` casts to it whatever its ``compute_dtype`` is.
    """
    asked = {
        str(each.compute_dtype).removeprefix("torch.")
        for each in model.modules()
        if type(each).__name__ == "Linear4bit"
        and each.weight.device.type == "cpu"
        and getattr(each, "support_avx512bf16_for_cpu", False)
    }
    return [
        f"{dtype} was asked for, but on a CPU with AVX512-BF16 bitsandbytes multiplies 4-bit "
        "weights in bfloat16"
        for dtype in sorted(asked - {"bfloat16"})
    ]


def weight_element_bytes(model: Any) -> float:
    """Average size of a weight that a step reads, scales and zeros included.

    The table of the tokens counts where it is the output as well. Packed tensors do not tell
    their size (``get_memory_footprint`` is wrong for some), so that what they are made of is
    counted.
    """
    table = model.get_input_embeddings()
    head = model.get_output_embeddings()
    is_tied = head is not None and head.weight is table.weight
    held = elements = 0
    for module in model.modules():
        if module is table and not is_tied:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if module is head and name == "weight" and is_tied:
                continue  # counted as the table
            held += held_bytes(parameter) + _scales_beside(module, parameter, name)
            elements += _elements(module, parameter, name)
    return held / elements


def _elements(module: Any, parameter: Any, name: str) -> int:
    if name == "weight" and hasattr(module, "in_features"):
        return int(module.in_features * module.out_features)
    return int(parameter.numel())


def held_bytes(tensor: Any) -> int:
    """Of a tensor, or of the tensors that a subclass wraps."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return int(tensor.numel() * tensor.element_size())
    names, _ = flatten()
    return sum(held_bytes(getattr(tensor, name)) for name in names)


def _scales_beside(module: Any, parameter: Any, name: str) -> int:
    """What bitsandbytes keeps outside of the packed tensor."""
    if name != "weight":
        return 0
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return int(state.absmax.numel() * state.absmax.element_size())
    beside = getattr(parameter, "SCB", None)
    if beside is None:
        beside = getattr(getattr(module, "state", None), "SCB", None)
    return 0 if beside is None else int(beside.numel() * beside.element_size())


def packed_weights(torch: Any, options: TransformersOptions, device: Any) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for weights that are packed. Raises EngineRefused."""
    if options.quantize is None:
        if options.compute_dtype is not None:
            raise EngineRefused("compute_dtype needs quantize='nf4' or 'fp4'")
        return {}
    if options.compute_dtype is not None and options.quantize not in FOUR_BIT:
        raise EngineRefused(f"quantize={options.quantize} has no compute_dtype: leave it out")
    usual = "bfloat16" if options.dtype == "auto" else options.dtype
    compute_dtype = getattr(torch, options.compute_dtype or usual)
    return {
        "quantization_config": quantization_config(options.quantize, compute_dtype),
        "device_map": {"": device},
    }
