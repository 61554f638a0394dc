"""How does a request for a synthetic model become files: from the cache, or built now?"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pytest_llmperf.models.architecture import MODEL_TYPES, lay_out
from pytest_llmperf.models.builder import run_builder
from pytest_llmperf.models.cache import Entry, require_space
from pytest_llmperf.models.config import ModelConfig, read_config
from pytest_llmperf.models.describe import describe
from pytest_llmperf.models.errors import (
    BrokenModelFile,
    ModelUnavailable,
    RequirementMissing,
    UnsupportedModel,
)
from pytest_llmperf.models.formats import Format
from pytest_llmperf.models.messages import BuildTask
from pytest_llmperf.models.presets import find_preset
from pytest_llmperf.models.quantization import (
    Quantization,
    find_quantization,
    makeable_in,
    require_makeable,
)
from pytest_llmperf.models.safetensors import SINGLE
from pytest_llmperf.models.spec import SYNTHETIC, TRAINED, ModelFiles, ModelSpec
from pytest_llmperf.models.tokenizer import tokens
from pytest_llmperf.models.trained import find_recipe, reading

BUILDER_VERSION = 1
"""To be raised whenever the same request would give other bytes."""

_BF16_BYTES = 2
_ESTIMATE_MARGIN = 1.25
_KINDS = {"gguf": "a GGUF", "onnx": "an onnxruntime-genai"}
_HOLDERS = {
    "gguf": "a GGUF file",
    "hf": "a Hugging Face folder",
    "onnx": "a folder of onnxruntime-genai",
}
_USUAL = {"gguf": "F16", "hf": "BF16", "onnx": "INT4"}


class SyntheticModel(msgspec.Struct, frozen=True):
    """A request for a synthetic model, checked and complete."""

    name: str
    config: ModelConfig
    seed: int
    format: Format
    quantization: Quantization
    recipe: str | None = None
    """By which it is trained; None: its weights are random."""

    @classmethod
    def of(cls, spec: ModelSpec, file_format: Format) -> SyntheticModel:
        """Complete ``spec``. Raises a ModelError that says what cannot be made, and why."""
        name, config = named_config(spec)
        quantization = find_quantization(spec.quantization or _USUAL[file_format])
        require_makeable(quantization)
        tokens(config.count("vocab_size"))
        if file_format not in quantization.formats:
            raise UnsupportedModel(
                f"{quantization.name} is {_KINDS[quantization.formats[0]]} quantization; "
                f"{_HOLDERS[file_format]} holds one of {', '.join(makeable_in(file_format))}."
            )
        if file_format == "gguf":
            architecture = lay_out(config)
            if architecture.gguf_obstacle:
                raise UnsupportedModel(
                    f"{config.origin} cannot be written as GGUF: {architecture.gguf_obstacle}. "
                    "Use format hf."
                )
        recipe = spec.source.removeprefix(TRAINED) if spec.source.startswith(TRAINED) else None
        return cls(name, config, spec.seed, file_format, quantization, recipe)

    @property
    def is_what_is_trained(self) -> bool:
        """Whether training writes this itself; other formats get their weights from it."""
        return self.format == "hf" and self.quantization.name == "F32"

    def trained(self) -> SyntheticModel:
        """The form that training writes."""
        return msgspec.structs.replace(self, format="hf", quantization=find_quantization("F32"))

    def entry(self, models: Path) -> Entry:
        """Return its place in the folder of all cached models."""
        maker = _maker_version(self.format, self.quantization)
        facts: tuple[object, ...] = (
            BUILDER_VERSION,
            self.config.values,
            self.seed,
            self.format,
            self.quantization.name,
            maker,
        )
        if self.recipe is not None:
            facts += (reading(find_recipe(self.recipe)),)
        digest = hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()
        kind = self.quantization.name
        if self.format != "gguf":
            kind = f"{self.format}-{kind}"
        return Entry(models / f"{self.name}-{kind}-{digest[:12]}")

    @property
    def needs_base(self) -> bool:
        """Whether it is made of a model of the same weights in a plain type."""
        return self.format == "onnx" or not self.quantization.is_plain

    def plain_gguf(self, models: Path) -> Path | None:
        """Return a cached GGUF file of the same weights that can be quantized, if there is one."""
        for name in ("BF16", "F16", "F32"):
            same = msgspec.structs.replace(self, quantization=find_quantization(name))
            entry = same.entry(models)
            if entry.folder.is_dir():
                entry.hold()
            found = describe_entry(entry, "gguf")
            if found is not None:
                return Path(found.path)
        return None

    def space_needed(self, *, has_base: bool) -> int:
        """Estimate the bytes that building writes, the intermediate file included."""
        if self.config.model_type not in MODEL_TYPES:
            return 0
        parameters = lay_out(self.config).parameters
        size = parameters * self.quantization.nominal_bits / 8
        if self.needs_base:
            size *= _ESTIMATE_MARGIN
            size += 0 if has_base else parameters * _BF16_BYTES
        return int(size)


def obtain(
    model: SyntheticModel,
    models: Path,
    progress: Callable[[str, float], None],
    timeout_s: float | None,
    free: Callable[[Path], int],
) -> ModelFiles:
    """Return the files of ``model`` from the folder ``models``, building them if need be.

    Raises NoSpace, BuildFailed, RequirementMissing, or what the builder found wrong.
    """
    began = time.monotonic()
    entry = model.entry(models)
    entry.hold()
    found = describe_entry(entry, model.format)
    if found is not None:
        return found
    _require_packages(model)
    weights = None
    if model.recipe is not None and not model.is_what_is_trained:
        left_s = None if timeout_s is None else began + timeout_s - time.monotonic()
        weights = Path(obtain(model.trained(), models, progress, left_s, free).path) / SINGLE
    with entry.locked(timeout_s, functools.partial(progress, "waiting for another build", 0.0)):
        found = describe_entry(entry, model.format)
        if found is not None:
            return found
        is_quantized = model.format == "gguf" and model.needs_base
        base = model.plain_gguf(models) if is_quantized else None
        with entry.temporary() as folder:
            require_space(folder, model.space_needed(has_base=base is not None), free)
            task = BuildTask(
                name=model.name,
                origin=model.config.origin,
                config=model.config.values,
                seed=model.seed,
                format=model.format,
                quantization=model.quantization.name,
                folder=str(folder),
                recipe=model.recipe if model.is_what_is_trained else None,
                weights=str(weights) if weights else None,
                base_gguf=str(base) if base else None,
            )
            run_builder(task, progress, None if timeout_s is None else began + timeout_s)
            describe(folder, model.format)
            entry.commit(folder)
    return msgspec.structs.replace(describe(entry.folder, model.format), synthetic=True)


def describe_entry(entry: Entry, file_format: Format) -> ModelFiles | None:
    """Describe a cached model; None when it is not there, or no longer whole."""
    try:
        return msgspec.structs.replace(describe(entry.folder, file_format), synthetic=True)
    except (ModelUnavailable, BrokenModelFile):
        return None


def named_config(spec: ModelSpec) -> tuple[str, ModelConfig]:
    """Return a readable name and the config that a synthetic model's source stands for.

    Raises UnknownModel for a name that is none, ModelNotHere or BrokenModelFile for a path.
    """
    if spec.source.startswith(TRAINED):
        name = spec.source.removeprefix(TRAINED)
        return f"trained-{name}", ModelConfig(spec.source, find_recipe(name).config)
    name = spec.source.removeprefix(SYNTHETIC)
    if not name.endswith(".json") and "/" not in name:
        return name.strip().lower(), ModelConfig(f"synthetic:{name}", find_preset(name))
    path = Path(name).expanduser()
    if path.is_dir():
        path /= "config.json"
    config = read_config(path)
    stem = path.resolve().parent.name if path.name == "config.json" else path.stem
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "model", config


def _require_packages(model: SyntheticModel) -> None:
    needed = {"numpy": "numpy"}
    if model.format == "onnx":
        needed |= dict.fromkeys(("onnxruntime_genai", "onnx"), "'pytest-llmperf[onnxruntime]'")
        needed |= dict.fromkeys(("torch", "transformers"), "'pytest-llmperf[transformers]'")
    elif not model.quantization.is_plain:
        needed["llama_cpp"] = "'pytest-llmperf[llama-cpp]'"
    is_to_be_trained = model.recipe is not None and model.is_what_is_trained
    if is_to_be_trained or model.config.model_type not in MODEL_TYPES:
        needed |= dict.fromkeys(("torch", "transformers"), "'pytest-llmperf[transformers]'")
    for module, package in needed.items():
        if importlib.util.find_spec(module) is None:
            raise RequirementMissing(
                f"building {model.name} as {model.format} {model.quantization.name} needs the "
                f"module {module}: pip install {package}"
            )


_MAKERS = {
    "gguf": ("llama_cpp_python", "llama.cpp's quantizer", "llama-cpp"),
    "onnx": ("onnxruntime_genai", "onnxruntime-genai's model builder", "onnxruntime"),
}


def _maker_version(file_format: Format, quantization: Quantization) -> str:
    """Of what makes such files beside ourselves; empty: nothing. Raises RequirementMissing."""
    if file_format not in _MAKERS or (file_format == "gguf" and quantization.is_plain):
        return ""
    distribution, maker, extra = _MAKERS[file_format]
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise RequirementMissing(
            f"making synthetic models in {quantization.name} as {file_format} needs {maker}: "
            f"pip install 'pytest-llmperf[{extra}]'"
        ) from None
