"""What do the caller and the process that builds a synthetic model say to each other?

The task is one JSON argument; the answers are JSON lines on the builder's standard output.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pytest_llmperf.models.formats import Format


class BuildTask(msgspec.Struct, frozen=True):
    """Everything the builder needs to know; it looks at nothing else."""

    name: str
    """The model's readable name, which goes into its files."""
    origin: str
    """Where the config came from, for messages."""
    config: dict[str, Any]
    seed: int
    format: Format
    quantization: str
    folder: str
    """An empty folder that the files are written into."""
    recipe: str | None = None
    """Train it by this one of models/trained.py, instead of drawing random weights."""
    weights: str | None = None
    """A safetensors file in float32 that holds its weights, instead of random ones."""
    base_gguf: str | None = None
    """A file of the same weights in a plain type, if one is there already."""


class Progress(msgspec.Struct, frozen=True, tag_field="message", tag="progress"):
    """How far the builder is."""

    stage: str
    fraction: float
    """Of this stage, between 0 and 1."""


class Failed(msgspec.Struct, frozen=True, tag_field="message", tag="failed"):
    """The builder gave up; ``kind`` is the name of a ModelError."""

    kind: str
    text: str


class Done(msgspec.Struct, frozen=True, tag_field="message", tag="done"):
    """All files are written."""


Answer = Progress | Failed | Done
