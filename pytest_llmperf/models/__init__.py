"""What is run? Which weights a source means, where their files are, and what is in them."""

from pytest_llmperf.models.errors import (
    BrokenModelFile,
    BuildFailed,
    InvalidSource,
    ModelError,
    ModelNotHere,
    ModelUnavailable,
    NoSpace,
    RequirementMissing,
    UnknownModel,
    UnknownQuantization,
    UnsupportedModel,
)
from pytest_llmperf.models.formats import Format
from pytest_llmperf.models.resolve import resolve
from pytest_llmperf.models.spec import ModelFiles, ModelSpec

__all__ = [
    "BrokenModelFile",
    "BuildFailed",
    "Format",
    "InvalidSource",
    "ModelError",
    "ModelFiles",
    "ModelNotHere",
    "ModelSpec",
    "ModelUnavailable",
    "NoSpace",
    "RequirementMissing",
    "UnknownModel",
    "UnknownQuantization",
    "UnsupportedModel",
    "resolve",
]
