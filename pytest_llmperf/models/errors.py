"""Which ways are there for a model not to be had, and which of them are nobody's mistake?

:class:`ModelUnavailable` and its children say that something is not on this machine: the caller
skips. Every other :class:`ModelError` is a mistake in the request, a broken file or a failed
build: the caller fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self


class ModelError(Exception):
    """A model cannot be had; the message says what was wrong, where, and what to do."""


class InvalidSource(ModelError):
    """The source is not written in any of the known forms."""


class UnknownModel(ModelError):
    """No synthetic model has this name."""


class UnknownQuantization(ModelError):
    """No quantization has this name, or it cannot be made without data that we lack."""


class UnsupportedModel(ModelError):
    """The model is well formed, but not in a format or of an architecture that was asked for."""


class BrokenModelFile(ModelError):
    """A file is damaged, truncated, or not what its name says."""

    @classmethod
    def at(cls, path: Path, problem: str, remedy: str = "Download or build it again.") -> Self:
        """Make the error for ``path``; ``problem`` names the place in the file."""
        return cls(f"{path}: {problem}. {remedy}")


class NoSpace(ModelError):
    """The disk that holds the model cache is too full for the model."""


class BuildFailed(ModelError):
    """The process that builds synthetic models died, or took too long."""


class ModelUnavailable(ModelError):
    """The model could be had on another machine: something is missing on this one."""


class ModelNotHere(ModelUnavailable):
    """The files of the model are not on this machine."""


class RequirementMissing(ModelUnavailable):
    """A package that is needed to build the model is not installed."""
