"""What is in these model files, by their own headers?"""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pytest_llmperf.models import safetensors
from pytest_llmperf.models.config import ModelConfig, read_config
from pytest_llmperf.models.errors import (
    BrokenModelFile,
    ModelNotHere,
    UnknownQuantization,
    UnsupportedModel,
)
from pytest_llmperf.models.formats import Format
from pytest_llmperf.models.gguf import GgufHeader, GgufTensor, read_gguf
from pytest_llmperf.models.gguf_bytes import shown
from pytest_llmperf.models.onnx_folder import SETTINGS, read_onnx_folder
from pytest_llmperf.models.quantization import name_of_ftype
from pytest_llmperf.models.spec import ModelFiles
from pytest_llmperf.models.weight_files import SHARD

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth")


def describe(path: Path, file_format: Format, quantization: str | None = None) -> ModelFiles:
    """Describe the model at ``path`` as files of ``file_format``.

    For ``gguf``: a file, the first of several shards, or a folder with one such model, or with
    one of ``quantization``. For ``hf`` and ``onnx``: a folder. Raises ModelNotHere when there
    is nothing, BrokenModelFile when it is not whole, UnsupportedModel when it is of another format,
    UnknownQuantization when it holds another quantization than asked for, RequirementMissing.
    """
    if not path.exists():
        raise ModelNotHere(f"{path}: no such file or folder.")
    if file_format == "hf":
        found = describe_folder(path)
    elif file_format == "onnx":
        found = describe_onnx(path)
    elif path.is_dir():
        return _choose(path, quantization)
    else:
        found = describe_gguf(path)
    if quantization not in (None, found.quantization):
        raise UnknownQuantization(
            f"{path} holds {found.quantization}, not {quantization}: files are taken as they are. "
            f"Leave the quantization out, or name a file of {quantization}."
        )
    return found


def describe_gguf(path: Path) -> ModelFiles:
    """Describe a GGUF model from its headers, all shards together.

    Raises ModelNotHere or BrokenModelFile; UnsupportedModel for the byte order of other machines.
    """
    header = read_gguf(path)
    if not header.is_native:
        raise UnsupportedModel(
            f"{path} is a {header.byte_order}-endian GGUF on a {sys.byteorder}-endian machine: no "
            "engine loads it here. Convert the model on this machine."
        )
    tensors = _tensors(path, {path: header, **_other_shards(path, header)})
    if not tensors:
        raise BrokenModelFile.at(path, "holds no tensors")
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise BrokenModelFile.at(path, "general.architecture is missing")
    mix = Counter[str]()
    for tensor in tensors:
        mix[tensor.type_name] += tensor.elements
    ftype = header.metadata.get("general.file_type")
    named = name_of_ftype(ftype) if isinstance(ftype, int) else None
    vocab_size = header.metadata.get(f"{architecture}.vocab_size")
    if vocab_size is None:
        vocab_size = header.array_lengths.get("tokenizer.ggml.tokens")
    return _files(
        path,
        "gguf",
        mix,
        weight_bytes=sum(tensor.bytes for tensor in tensors),
        quantization=named or mix.most_common(1)[0][0],
        facts=(architecture, vocab_size, header.metadata.get(f"{architecture}.context_length")),
    )


def describe_folder(folder: Path) -> ModelFiles:
    """Describe a Hugging Face folder from its config and the headers of its safetensors files.

    Raises UnsupportedModel when there are only pickled weights or it is no folder,
    BrokenModelFile when something is missing or damaged.
    """
    if not folder.is_dir():
        raise UnsupportedModel(f"{folder} is a file; format hf wants a folder with a config.json.")
    if not any((folder / name).is_file() for name in (safetensors.SINGLE, safetensors.INDEX)):
        raise _no_weights(folder)
    if not (folder / "config.json").is_file():
        raise BrokenModelFile.at(folder, "config.json is missing from the folder")
    config = read_config(folder / "config.json")
    tensors = safetensors.read_folder(folder)
    if not tensors:
        raise BrokenModelFile.at(folder, "its weights hold no tensors")
    mix = Counter[str]()
    for tensor in tensors:
        mix[tensor.dtype] += tensor.elements
    text = config.values.get("text_config")
    values: dict[str, Any] = config.values | (text if isinstance(text, dict) else {})
    return _files(
        folder,
        "hf",
        mix,
        weight_bytes=sum(tensor.bytes for tensor in tensors),
        quantization=_named_quantization(config) or mix.most_common(1)[0][0],
        facts=(config.model_type, values.get("vocab_size"), values.get("max_position_embeddings")),
    )


def describe_onnx(folder: Path) -> ModelFiles:
    """Describe a folder of onnxruntime-genai from its graph. Raises as ``read_onnx_folder``."""
    if not folder.is_dir():
        raise UnsupportedModel(f"{folder} is a file; format onnx wants a folder with {SETTINGS}.")
    model = read_onnx_folder(folder)
    mix = Counter[str]()
    for tensor in model.tensors:
        mix[tensor.type] += tensor.elements
    packed = [tensor.type for tensor in model.tensors if tensor.is_packed]
    return _files(
        folder,
        "onnx",
        mix,
        weight_bytes=sum(tensor.bytes for tensor in model.tensors),
        quantization=(packed or [mix.most_common(1)[0][0]])[0],
        facts=(model.architecture, model.vocab_size, model.context_length),
    )


def _files(
    path: Path,
    file_format: Format,
    mix: Counter[str],
    *,
    weight_bytes: int,
    quantization: str,
    facts: tuple[str, object, object],
) -> ModelFiles:
    architecture, vocab_size, context_length = facts
    parameters = mix.total()
    return ModelFiles(
        path=str(path),
        format=file_format,
        weight_bytes=weight_bytes,
        parameters=parameters,
        bits_per_weight=weight_bytes * 8 / parameters if parameters else math.nan,
        type_mix=dict(mix.most_common()),
        quantization=quantization,
        architecture=architecture,
        vocab_size=vocab_size if isinstance(vocab_size, int) else None,
        context_length=context_length if isinstance(context_length, int) else None,
        synthetic=False,
    )


def _other_shards(path: Path, header: GgufHeader) -> dict[Path, GgufHeader]:
    """Read the other files of a split model; the rules are those of llama.cpp's model loader."""
    count = _split(path, header, "split.count") if "split.count" in header.metadata else 1
    match = SHARD.fullmatch(path.name)
    if count < 2:
        if match and int(match["count"]) > 1:
            problem = f"named as one of {int(match['count'])} shards, but its header tells of one"
            raise BrokenModelFile.at(path, problem, "Give a whole model another name.")
        return {}
    if not match or int(match["number"]) != 1 or int(match["count"]) != count:
        problem = f"one of {count} shards, but not named as the first of them"
        raise BrokenModelFile.at(path, problem, f"Give the file …-00001-of-{count:05}.gguf.")
    _check_shard(path, header, 1, header)
    found = {}
    for number in range(2, count + 1):
        shard = path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf")
        if not shard.is_file():
            raise BrokenModelFile.at(path, f"shard {shard.name} is missing beside it")
        found[shard] = read_gguf(shard)
        _check_shard(shard, found[shard], number, header)
    return found


def _check_shard(path: Path, header: GgufHeader, number: int, first: GgufHeader) -> None:
    """Check that a file is the shard that its name says, of the same model as the first one."""
    said = _split(path, header, "split.no") + 1
    if said != number:
        raise BrokenModelFile.at(path, f"named as shard {number}, but its header says {said}")
    for key, optional in (
        ("split.count", False),
        ("split.tensors.count", True),
        ("general.architecture", True),  # only the first shard has to say it
    ):
        value, wanted = header.metadata.get(key), first.metadata.get(key)
        if value != wanted and not (optional and value is None):
            problem = f"its {key} is {value!r:.80}, of shard 1 {wanted!r:.80}"
            raise BrokenModelFile.at(path, f"shard of another model: {problem}")
    if header.byte_order != first.byte_order:
        raise BrokenModelFile.at(path, f"{header.byte_order}-endian, unlike shard 1")


def _tensors(path: Path, shards: dict[Path, GgufHeader]) -> list[GgufTensor]:
    """The tensors of all shards of the model at ``path``."""
    places: dict[str, Path] = {}
    for shard, header in shards.items():
        for tensor in header.tensors:
            if tensor.name in places:
                problem = f"tensor {shown(tensor.name)} is also in {places[tensor.name].name}"
                raise BrokenModelFile.at(shard, problem)
            places[tensor.name] = shard
    promised = shards[path].metadata.get("split.tensors.count")
    if promised is not None and len(shards) > 1 and promised != len(places):
        problem = f"split.tensors.count is {promised!r:.80}, but the shards hold {len(places)}"
        raise BrokenModelFile.at(path, problem)
    return [tensor for header in shards.values() for tensor in header.tensors]


def _split(path: Path, header: GgufHeader, key: str) -> int:
    value = header.metadata.get(key)
    if type(value) is not int or value < 0:
        raise BrokenModelFile.at(path, f"one of several shards, but its {key} is {value!r:.80}")
    return value


def _choose(folder: Path, quantization: str | None) -> ModelFiles:
    """Describe the one GGUF model of a folder that is in ``quantization``."""
    files = [path for path in sorted(folder.glob("*.gguf")) if _is_first(path)]
    if not files and (folder / "config.json").is_file():
        raise UnsupportedModel(
            f"{folder} is a Hugging Face folder without a GGUF file, and format gguf was asked "
            "for. Convert it with llama.cpp's convert_hf_to_gguf.py, or use another backend."
        )
    if not files:
        raise ModelNotHere(f"{folder} holds no GGUF file.")
    found = [describe_gguf(path) for path in files]
    fitting = [one for one in found if quantization in (None, one.quantization)]
    if len(fitting) == 1:
        return fitting[0]
    held = ", ".join(f"{Path(one.path).name} ({one.quantization})" for one in found)
    wanted = f"of {quantization}" if quantization else "to choose without a quantization"
    message = f"{folder} holds {len(fitting)} GGUF models {wanted}: it has {held}. Name the file."
    raise (UnsupportedModel if fitting else ModelNotHere)(message)


def _is_first(path: Path) -> bool:
    match = SHARD.fullmatch(path.name)
    return match is None or int(match["number"]) == 1


def _no_weights(folder: Path) -> ModelNotHere | UnsupportedModel:
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        return UnsupportedModel(
            f"{folder} holds only pickled weights ({pickles[0]}), which can run any code when "
            "loaded. Use a safetensors version of the model."
        )
    if any(folder.glob("*.gguf")):
        return UnsupportedModel(f"{folder} holds GGUF files, and format hf was asked for.")
    return ModelNotHere(f"{folder} holds no weights ({safetensors.SINGLE} or its index).")


def _named_quantization(config: ModelConfig) -> str | None:
    """Return the config's own word for packed weights, such as ``gptq-4bit``."""
    settings = config.values.get("quantization_config")
    if not isinstance(settings, dict) or not isinstance(settings.get("quant_method"), str):
        return None
    bits = settings.get("bits") or settings.get("w_bit")
    return f"{settings['quant_method']}-{bits}bit" if bits else str(settings["quant_method"])
