"""Which server is meant, and how is it started or found?"""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Literal

import msgspec

from pytest_llmperf.backends.known_servers import KNOWN
from pytest_llmperf.backends.protocol import BackendOptions, ModelFormat

USUAL_CONTEXT = 2048
"""Tokens, of a server that is started; less where the model was made for less."""
_QUANTIZATIONS: dict[ModelFormat, str] = {"gguf": "Q4_K_M", "hf": "BF16", "onnx": "INT4"}


class OpenAIOptions(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="openai")``."""

    server: Literal["llama-server", "llama-cpp-server", "vllm"] = "llama-server"
    """What is started, unless ``command`` or ``base_url`` is given."""
    arguments: str = ""
    """More words for the command."""
    python: str | None = None
    """The interpreter of a server written in Python; None: ours."""
    command: str | None = None
    """Start this instead: words with ``{model}``, ``{host}``, ``{port}``, ``{context_tokens}``,
    ``{threads}``, ``{python}``."""
    command_loads: ModelFormat | None = None
    """What ``{model}`` is in ``command``: ``gguf`` or ``hf``; None: it loads a model of its own."""
    base_url: str | None = None
    """Use the server that runs at this address."""
    api_key_env: str | None = None
    """Name of the environment variable that holds its key. A server that is started does not get
    the variable, and is asked without a key."""
    model: str | None = None
    """Name by which the server knows the model; None: the only one that it has."""
    context_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Context in tokens; None: what the server says. One that is started gets 2048, or less where
    the model was made for less."""
    vocab_size: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Token ids that a prompt may hold; None: as the model's files or the server say."""
    threads: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Threads of a server that is started; None: the cores this process may use."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where a server that is started computes, which it does not tell; auto: on the CPU where there
    is no GPU, else it is called ``server``."""
    start_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """How long it may take until it is ready, in seconds."""

    def __post_init__(self) -> None:
        if self.base_url is not None:
            check_url(self.base_url)

    def gpus(self) -> int | None:
        """All of them, unless a server that is started is said to compute on the CPU."""
        return 0 if self.device == "cpu" and self.base_url is None else None

    def model_format(self, usual: ModelFormat | None) -> ModelFormat | None:
        """That of the server which is started; a server that runs already has its model."""
        del usual
        if self.base_url is not None:
            return None
        return self.command_loads if self.command else KNOWN[self.server].model_format

    def default_quantization(self, usual: str | None) -> str | None:
        """``Q4_K_M`` for GGUF files, ``BF16`` for folders."""
        wanted = self.model_format(None)
        return usual if wanted is None else _QUANTIZATIONS[wanted]


def check_url(url: str) -> None:
    """Raises ValueError for what is no address, or holds a secret that would be shown."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("base_url must be an address like http://127.0.0.1:8000")
    if parts.username or parts.password or parts.query:
        raise ValueError("base_url must hold no key: name its variable with api_key_env=…")
