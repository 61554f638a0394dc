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
    "onnxruntime": "pytest_llmperf.backends.onnxruntime:OnnxRuntime",
    "vllm": "pytest_llmperf.backends.vllm:Vllm",
    "openai": "pytest_llmperf.backends.openai:OpenAI",
    "ollama": "pytest_llmperf.backends.ollama:Ollama",
    "fake": "pytest_llmperf.backends.fake:Fake",
}


class BackendError(Exception):
    """A backend was named or configured wrongly; the message says what to write instead."""


class UnknownBackend(BackendError):
    """No backend has this name."""


class UnknownOption(BackendError):
    """The backend does not take this option, or not with this value."""


def backend_names() -> tuple[str, ...]:
    """Names of all backends, real engines first."""
    return tuple(_CLASSES)


def find_backend(name: str) -> Backend:
    """The adapter called ``name``; imports the adapter, never its engine. Raises UnknownBackend."""
    if name not in _CLASSES:
        raise UnknownBackend(
            f"unknown backend {name!r}{nearest(name, _CLASSES)}; known: {', '.join(_CLASSES)}"
        )
    module, _, class_name = _CLASSES[name].partition(":")
    adapter: Backend = getattr(importlib.import_module(module), class_name)()
    return adapter


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
