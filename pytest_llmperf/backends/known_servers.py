"""Which servers can be started by a short name, and how is a command made of a template?"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_llmperf.backends.protocol import EngineMissing, EngineRefused, ModelFormat


@dataclass(frozen=True)
class KnownServer:
    """One server with a completions interface like OpenAI's."""

    command: str
    """Template; the fields are those of :func:`fill`."""
    model_format: ModelFormat
    remedy: str
    """What to do where it is not installed."""
    modules: tuple[str, ...] = ()
    """What its Python has to have."""
    cache_option: str | None = None
    """How it is told the size of its KV cache, in bytes; None: it makes room for the context."""
    sizes_cache: tuple[str, ...] = ()
    """Arguments with which somebody else decides about that."""
    distribution: str | None = None
    """The package whose version is told, where the server tells none."""
    wrong_request: tuple[int, ...] = (400, 422)
    """HTTP statuses with which it answers a request that it does not understand."""


KNOWN = {
    # Without --cache-ram it would keep the prompts of earlier requests, in up to 8 GiB of RAM.
    "llama-server": KnownServer(
        command="llama-server --model {model} --host {host} --port {port} "
        "--ctx-size {context_tokens} --threads {threads} --parallel 1 --cache-ram 0 --offline",
        model_format="gguf",
        remedy="build or install llama.cpp, and have its llama-server on the PATH; or name its "
        "path with command=…",
    ),
    "llama-cpp-server": KnownServer(
        command="{python} -m llama_cpp.server --model {model} --host {host} --port {port} "
        "--n_ctx {context_tokens} --n_threads {threads}",
        model_format="gguf",
        remedy="pip install 'llama-cpp-python[server]'",
        modules=("llama_cpp", "fastapi", "uvicorn"),
        distribution="llama-cpp-python",
        wrong_request=(500,),  # RouteErrorHandler in its errors.py makes that of every exception
    ),
    "vllm": KnownServer(
        command="{python} -m vllm.entrypoints.openai.api_server --model {model} --host {host} "
        "--port {port} --max-model-len {context_tokens} --no-enable-prefix-caching "
        "--enable-prompt-tokens-details --enable-per-request-metrics",
        model_format="hf",
        remedy="vLLM wants an environment of its own: name its interpreter with python=…",
        modules=("vllm",),
        cache_option="--kv-cache-memory-bytes",
        sizes_cache=("--kv-cache-memory-bytes", "--gpu-memory-utilization", "--max-model-len"),
    ),
}


_FIELD = re.compile(r"\{(\w+)\}")


def require_modules(server: KnownServer, python: str) -> None:
    """Raises EngineMissing for what our own Python lacks; another one says it itself."""
    if python != sys.executable:
        return
    lacking = [name for name in server.modules if importlib.util.find_spec(name) is None]
    if lacking:
        raise EngineMissing(f"{', '.join(lacking)} is not installed: {server.remedy}")


def fill(template: str, values: Mapping[str, object]) -> list[str]:
    """The words of a command; a path stays one word, whatever is in it. Raises EngineRefused."""

    def value(field: re.Match[str]) -> str:
        if field[1] not in values:
            known = ", ".join(f"{{{name}}}" for name in values)
            raise EngineRefused(f"command has a field {field[0]}; it may have {known}")
        return str(values[field[1]])

    try:
        return [_FIELD.sub(value, word) for word in shlex.split(template)]
    except ValueError as error:
        raise EngineRefused(f"command {template!r} cannot be split into words: {error}") from None
