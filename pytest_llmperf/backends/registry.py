"""Which backends are there, are their engines installed, and which options do they take?"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Mapping

import msgspec

from pytest_llmperf.backends.protocol import Backend, BackendOptions

_CLASSES = {
    "llama-cpp": "pytest_llmperf.backends.llama_cpp:LlamaCpp",
    "transformers": "pytest_llmperf.backends.transformers:Transformers",
    "transformers-training": ("pytest_llmperf.backends.transformers_training:TransformersTraining"),
    "onnxruntime": "pytest_llmperf.backends.onnxruntime:OnnxRuntime",
    "vllm": "pytest_llmperf.backends.vllm:Vllm",
    "tensorrt-llm": "pytest_llmperf.backends.tensorrt_llm:TensorRtLlm",
    "exllamav2": "pytest_llmperf.backends.exllamav2:ExLlamaV2",
    "openai": "pytest_llmperf.backends.openai:OpenAI",
    "ollama": "pytest_llmperf.backends.ollama:Ollama",
    "fake": "pytest_llmperf.backends.fake:Fake",
}


ENTRY_POINTS = "pytest_llmperf.backends"
"""The group in which a package declares its backends: ``name = "module:Class"``."""
_PROMISED = (
    *("name", "distribution", "install", "model_format", "default_quantization"),
    *("options_type", "clock", "import_engine", "load"),
)
_registered: dict[str, str] = {}


class BackendError(Exception):
    """A backend was named or configured wrongly; the message says what to write instead."""


class UnknownBackend(BackendError):
    """No backend has this name."""


class UnknownOption(BackendError):
    """The backend does not take this option, or not with this value."""


def backend_names() -> tuple[str, ...]:
    """Names of all backends: ours, then those of installed packages and plugins."""
    return tuple(_adapters())


def find_backend(name: str) -> Backend:
    """The adapter called ``name``; imports the adapter, never its engine.

    Raises UnknownBackend, and BackendError for one of a third party that is not what it must be.
    """
    path = _CLASSES.get(name)
    if path is not None:
        return find_adapter(path)
    others = _adapters()
    if name not in others:
        raise UnknownBackend(
            f"unknown backend {name!r}{nearest(name, others)}; known: {', '.join(others)}"
        )
    adapter = find_adapter(others[name])
    if adapter.name != name:
        raise BackendError(
            f"backend {name!r} is registered as {others[name]}, which calls itself {adapter.name!r}"
        )
    return adapter


def find_adapter(path: str) -> Backend:
    """The adapter at ``module:Class``. Raises BackendError saying what is wrong with it."""
    module, _, class_name = path.partition(":")
    try:
        adapter: Backend = getattr(importlib.import_module(module), class_name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise BackendError(
            f"backend {path} cannot be made: {error}. It must read module:Class, and the module "
            "must be importable in a fresh interpreter: workers import it, too"
        ) from error
    lacking = [each for each in _PROMISED if not hasattr(adapter, each)]
    if lacking:
        raise BackendError(f"backend {path} is none: it has no {', '.join(lacking)}")
    return adapter


def adapter_path(backend: Backend) -> str:
    """Where a worker finds this adapter: ``module:Class``."""
    return f"{type(backend).__module__}:{type(backend).__qualname__}"


def register(adapters: Mapping[str, str]) -> None:
    """Make backends known in this process, each by its name and ``module:Class``.

    Raises BackendError for a name that is taken by another adapter.
    """
    known = _adapters()
    for name, path in adapters.items():
        if known.get(name, path) != path:
            raise BackendError(
                f"backend {name!r} is {known[name]} already: give {path} another name"
            )
        _registered[name] = path


def _adapters() -> dict[str, str]:
    """By name; a package cannot take the name of one of ours."""
    installed = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return _CLASSES | {
        name: path
        for name, path in ({each.name: each.value for each in installed} | _registered).items()
        if name not in _CLASSES
    }


def installed_version(backend: Backend) -> str | None:
    """Version of the engine's package as installed, without importing it; None: not installed."""
    if backend.distribution is None:
        return ""
    try:
        return importlib.metadata.version(backend.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_options(backend: Backend, given: Mapping[str, object]) -> BackendOptions:
    """Check the options given in a test. Raises UnknownOption naming the option and the cure."""
    known = {field.name for field in msgspec.structs.fields(backend.options_type)}
    for name in given:
        if name not in known:
            raise UnknownOption(
                f"backend {backend.name} has no option {name!r}{nearest(name, known)}; "
                f"it takes {', '.join(sorted(known))}"
            )
    try:
        return msgspec.convert(dict(given), backend.options_type)
    except msgspec.ValidationError as error:
        raise UnknownOption(f"backend {backend.name}: {error}") from None


def nearest(name: str, known: Mapping[str, object] | set[str]) -> str:
    """``", did you mean …?"`` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""
