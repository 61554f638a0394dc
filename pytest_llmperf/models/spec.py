"""Which model is meant, and what did it turn out to be?"""

from __future__ import annotations

import re

import msgspec

from pytest_llmperf.models.errors import InvalidSource
from pytest_llmperf.models.formats import Format
from pytest_llmperf.models.quantization import find_quantization

SYNTHETIC = "synthetic:"
TRAINED = "trained:"
HUB = "hf:"

_HUB_SOURCE = re.compile(r"hf:(?P<org>[\w.-]+)/(?P<name>[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


class ModelSpec(msgspec.Struct, frozen=True):
    """Which weights, in which quantization. Equal specs mean the same model.

    The quantization is normalized (``q4_k`` becomes ``Q4_K_M``). Raises InvalidSource or
    UnknownQuantization when made from something that cannot be meant.
    """

    source: str
    """``synthetic:NAME``, ``synthetic:path/config.json``, ``trained:NAME``, a path,
    ``hf:org/name@revision``."""
    quantization: str | None = None
    """A llama.cpp file type by name, or ``INT4``; None takes what the source has."""
    seed: int = 0
    """Which random weights a synthetic model gets."""

    def __post_init__(self) -> None:
        if not self.source.strip() or self.source in (SYNTHETIC, TRAINED, HUB):
            raise InvalidSource(f"model source {self.source!r} names nothing. {_forms()}")
        if self.source.startswith(HUB):
            hub_parts(self.source)
        if not 0 <= self.seed < 2**63:
            raise InvalidSource(f"seed {self.seed} of {self.source} is not between 0 and 2**63.")
        if self.quantization is not None:
            normalized = find_quantization(self.quantization).name
            msgspec.structs.force_setattr(self, "quantization", normalized)

    @property
    def is_synthetic(self) -> bool:
        """Whether it is made here: of random weights, or trained on a shipped text."""
        return self.source.startswith((SYNTHETIC, TRAINED))

    @property
    def is_on_hub(self) -> bool:
        """Whether the source names a Hugging Face repository."""
        return self.source.startswith(HUB)


class HubParts(msgspec.Struct, frozen=True):
    """The parts of an ``hf:`` source."""

    org: str
    name: str
    revision: str


def hub_parts(source: str) -> HubParts:
    """Take ``hf:org/name@revision`` apart; the revision is ``main`` when left out.

    Raises InvalidSource when it is not of that form.
    """
    match = _HUB_SOURCE.fullmatch(source)
    parts = HubParts(**match.groupdict(default="main")) if match else None
    if parts is None or any(
        piece in ("", ".", "..") for piece in (parts.org, parts.name, *parts.revision.split("/"))
    ):
        raise InvalidSource(f"model source {source!r} is not hf:org/name or hf:org/name@revision.")
    return parts


def _forms() -> str:
    return (
        "Known forms: synthetic:NAME, synthetic:path/config.json, trained:NAME, a local file or "
        "folder, hf:org/name@revision."
    )


class ModelFiles(msgspec.Struct, frozen=True):
    """What a source turned out to be, read back from the files themselves."""

    path: str
    """The GGUF file (the first shard of several), or the folder."""
    format: Format
    weight_bytes: int
    """Bytes of all tensors, without header and padding."""
    parameters: int
    """Elements of all stored tensors; of packed formats (GPTQ, AWQ) the packed elements."""
    bits_per_weight: float
    type_mix: dict[str, int]
    """Elements per tensor type, largest first."""
    quantization: str
    """The file's own word for it, such as ``Q4_K_M``, ``BF16`` or ``gptq-4bit``."""
    architecture: str
    vocab_size: int | None
    context_length: int | None
    """The longest context the model was made for, in tokens."""
    synthetic: bool
