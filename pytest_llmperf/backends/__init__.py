"""Who runs the model? One adapter per engine behind one protocol."""

from pytest_llmperf.backends.device import AllocatorPeak
from pytest_llmperf.backends.protocol import (
    Backend,
    BackendOptions,
    Engine,
    EngineEnded,
    EngineFacts,
    EngineMissing,
    EngineRefused,
    EngineTimings,
    LogProbs,
    OptionValue,
    Request,
    TextTokens,
)
from pytest_llmperf.backends.registry import (
    BackendError,
    UnknownBackend,
    UnknownOption,
    adapter_path,
    backend_names,
    find_adapter,
    find_backend,
    installed_version,
    read_options,
    register,
)
from pytest_llmperf.backends.timeline import UNKNOWN, Timeline

__all__ = [
    "UNKNOWN",
    "AllocatorPeak",
    "Backend",
    "BackendError",
    "BackendOptions",
    "Engine",
    "EngineEnded",
    "EngineFacts",
    "EngineMissing",
    "EngineRefused",
    "EngineTimings",
    "LogProbs",
    "OptionValue",
    "Request",
    "TextTokens",
    "Timeline",
    "UnknownBackend",
    "UnknownOption",
    "adapter_path",
    "backend_names",
    "find_adapter",
    "find_backend",
    "installed_version",
    "read_options",
    "register",
]
