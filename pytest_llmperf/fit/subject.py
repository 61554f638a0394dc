"""Which model is planned for: files that are here, or a config of one that is not?"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_llmperf.fit.engines import ENGINES, PlannedEngine
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.fit.size_of_files import size_of_files, with_traffic
from pytest_llmperf.models import catalogue
from pytest_llmperf.models.config import ModelConfig, read_config
from pytest_llmperf.models.describe import describe_gguf
from pytest_llmperf.models.errors import ModelNotHere, UnknownQuantization, UnsupportedModel
from pytest_llmperf.models.hub import find_snapshot
from pytest_llmperf.models.layers_hf import layers_of_config
from pytest_llmperf.models.presets import PRESETS, find_preset
from pytest_llmperf.models.quantization import find_quantization
from pytest_llmperf.models.spec import HUB, SYNTHETIC, TRAINED, ModelFiles, ModelSpec
from pytest_llmperf.models.synthetic import named_config

_GGUF_ENGINE = "llama-cpp"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A model that may be planned for; exactly one of ``config`` and ``files`` is there."""

    title: str
    origin: str
    """Where its sizes are from."""
    max_context: int | None
    config: ModelConfig | None = None
    files: ModelFiles | None = None

    def sizes(
        self, engine: PlannedEngine, quantizations: tuple[str, ...] = ()
    ) -> list[tuple[str, ModelSize]]:
        """Its sizes in these quantizations, or in those that the engine's table shows.

        Raises UnknownQuantization, UnsupportedModel, BrokenModelFile naming a field.
        """
        if self.files is not None:
            return [self._as_it_is(self.files, engine, quantizations)]
        assert self.config is not None
        wanted = [_named(engine, each) for each in quantizations] or list(engine.quantizations)
        return [(each, engine.size(self.config, each)) for each in wanted]

    def _as_it_is(
        self, files: ModelFiles, engine: PlannedEngine, quantizations: tuple[str, ...]
    ) -> tuple[str, ModelSize]:
        if engine.name != _GGUF_ENGINE:
            raise UnsupportedModel(
                f"{files.path} is a GGUF file, which {engine.name} does not load: plan it for "
                f"{_GGUF_ENGINE}, or give the model's config.json."
            )
        if quantizations and quantizations != (files.quantization,):
            raise UnknownQuantization(
                f"{files.path} holds {files.quantization}: files are taken as they are. To plan "
                "for another quantization, give the model's config.json or its catalogue name."
            )
        return files.quantization, with_traffic(size_of_files(files), files)


def find_subject(source: str) -> Subject:
    """What ``source`` means: a catalogue name, a GGUF file, a folder, a config.json, hf:org/name.

    Raises UnknownModel, ModelNotHere, BrokenModelFile, InvalidSource.
    """
    if source.startswith(HUB):
        return _at(find_snapshot(source), source)
    if source.startswith(TRAINED):
        name, config = named_config(ModelSpec(source))
        return _of_config(config, name, "trained here")
    name = source.removeprefix(SYNTHETIC).strip()
    if name.lower() in catalogue.known():
        found = catalogue.entry(name.lower())
        return _of_config(catalogue.find(name), found.title, found.source)
    if name.lower() in PRESETS:
        return _of_config(ModelConfig(source, find_preset(name)), name, "a preset of ours")
    path = Path(name).expanduser()
    if path.exists() or path.suffix in (".json", ".gguf"):
        return _at(path, source)
    return _of_config(catalogue.find(name), name, "")  # refuses it, with the nearest name


def _at(path: Path, source: str) -> Subject:
    if path.is_dir() and (path / "config.json").is_file():
        return _of_config(read_config(path / "config.json"), source, str(path / "config.json"))
    if path.is_dir():
        held = sorted(path.glob("*.gguf"))
        if len(held) != 1:
            raise ModelNotHere(
                f"{path} holds no config.json and {len(held)} GGUF files: name one file."
            )
        path = held[0]
    if path.suffix == ".json":
        return _of_config(read_config(path), source, str(path))
    files = describe_gguf(path)
    return Subject(title=source, origin=str(path), max_context=files.context_length, files=files)


def _of_config(config: ModelConfig, title: str, origin: str) -> Subject:
    layers = layers_of_config(config)
    return Subject(title=title, origin=origin, max_context=layers.max_context, config=config)


def _named(engine: PlannedEngine, quantization: str) -> str:
    """Raises UnknownQuantization."""
    if engine.name == _GGUF_ENGINE:
        return find_quantization(quantization).name
    name = quantization.upper()
    if name not in engine.known:
        raise UnknownQuantization(
            f"{engine.name} has no quantization {quantization!r}. Known: {', '.join(engine.known)}."
        )
    return name


def find_engine(name: str) -> PlannedEngine:
    """The engine of a backend. Raises UnsupportedModel, listing those that can be planned for."""
    if name not in ENGINES:
        raise UnsupportedModel(
            f"what {name!r} takes cannot be planned. Known: {', '.join(ENGINES)}."
        )
    return ENGINES[name]
