"""What must an engine's adapter offer so that a worker can load and time it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

import msgspec

from pytest_llmperf.backends.timeline import Clock, Timeline
from pytest_llmperf.models import ModelFiles

ModelFormat = Literal["gguf", "hf"]
OptionValue = str | int | float | bool | None


class EngineMissing(Exception):
    """The engine's package cannot be imported here."""


class EngineRefused(Exception):
    """The engine, or its adapter, will not do it: a bad option, or too long a request."""


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded engine says of itself."""

    vocab_size: int
    """Number of token ids that a prompt may contain."""
    context_tokens: int
    """Prompt and generated tokens that one request may take together."""
    options: dict[str, OptionValue]
    """Every option in force, defaults resolved."""
    build: str = ""
    """What the engine says it was built with, for the reader of a report."""


class BackendOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the options that a backend takes; a subclass lists them with their defaults."""


class Engine(Protocol):
    """One loaded model."""

    def facts(self) -> EngineFacts:
        """Describe the engine as it was loaded."""
        ...

    def generate(self, prompt: Sequence[int], new_tokens: int, timeline: Timeline) -> None:
        """Generate ``new_tokens`` tokens greedily after ``prompt`` (token ids), ignoring any end.

        Calls ``timeline.start()`` when the request is handed to the engine, and
        ``timeline.token(id)`` as soon as each token is available to the caller. Nothing of an
        earlier request may be reused. What does not fit into ``facts().context_tokens`` is
        refused before it gets here.
        """
        ...

    def close(self) -> None:
        """Give the model's memory back."""
        ...


class Backend(Protocol):
    """The adapter of one engine. Its module imports the engine only inside functions."""

    name: ClassVar[str]
    distribution: ClassVar[str | None]
    """The package whose version is reported; None when there is nothing to install."""
    install: ClassVar[str]
    """The command that installs it."""
    model_format: ClassVar[ModelFormat | None]
    """What it loads; None: it needs no model files."""
    default_quantization: ClassVar[str | None]
    """What a synthetic model is made in when the test does not say."""
    options_type: ClassVar[type[BackendOptions]]

    clock: Clock
    """The clock of its timelines: real, except where time itself is scripted."""

    def import_engine(self) -> str:
        """Import the engine and return its version. Raises EngineMissing."""
        ...

    def load(self, model: ModelFiles | None, options: BackendOptions, invocation: int) -> Engine:
        """Load ``model`` (None if ``model_format`` is).

        ``invocation`` counts the fresh workers of one measurement from 0. Raises EngineRefused
        for options that the engine does not take.
        """
        ...
