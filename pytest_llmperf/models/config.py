"""What does a model's ``config.json`` say, and which field of it is missing or wrong?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from pytest_llmperf.models.errors import BrokenModelFile, ModelNotHere

_LARGEST_CONFIG = 100_000  # bytes; it travels as one argument, of which Linux takes 128 KiB


class ModelConfig(msgspec.Struct, frozen=True):
    """The fields of a ``config.json`` and where they came from, for messages."""

    origin: str
    values: dict[str, Any]

    @property
    def model_type(self) -> str:
        """The architecture's name at Hugging Face, such as ``llama``."""
        return self.text("model_type")

    def text(self, field: str) -> str:
        """Return a text field. Raises BrokenModelFile when it is missing or of another type."""
        value = self.values.get(field)
        if not isinstance(value, str) or not value:
            raise self._wrong(field, "a text", value)
        return value

    def count(self, field: str, default: int | None = None) -> int:
        """Return a positive whole number. Raises BrokenModelFile when it is missing or wrong."""
        value = self.values.get(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self._wrong(field, "a positive whole number", value)
        return value

    def number(self, field: str, default: float) -> float:
        """Return a number. Raises BrokenModelFile when it is of another type."""
        value = self.values.get(field)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(field, "a number", value)
        return float(value)

    def flag(self, field: str, default: bool) -> bool:
        """Return true or false. Raises BrokenModelFile when it is of another type."""
        value = self.values.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(field, "true or false", value)
        return value

    def rope(self) -> ModelConfig:
        """Return the rotary embedding's fields, of either generation of Hugging Face configs.

        New configs keep them in ``rope_parameters``; old ones have ``rope_theta`` beside
        ``rope_scaling``, whose ``rope_type`` was once called ``type``.
        """
        fields = dict(self.values.get("rope_scaling") or {})
        fields.update(self.values.get("rope_parameters") or {})
        fields.setdefault("rope_type", fields.get("type", "default"))
        for field in ("rope_theta", "partial_rotary_factor"):
            if field in self.values:
                fields.setdefault(field, self.values[field])
        return ModelConfig(f"{self.origin} (rope)", fields)

    def _wrong(self, field: str, wanted: str, value: object) -> BrokenModelFile:
        found = "is missing" if value is None else f"is {value!r}"
        return BrokenModelFile(f"{self.origin}: field {field!r} {found}; it must be {wanted}.")


def read_config(path: Path) -> ModelConfig:
    """Read a ``config.json``.

    Raises ModelNotHere when there is no such file, BrokenModelFile when it is not a config.
    """
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            problem = f"it is larger than {_LARGEST_CONFIG} bytes"
            raise BrokenModelFile.at(path, problem, "Give the model's config.json.")
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelNotHere(f"{path}: no such file; give the model's config.json.") from None
    except (IsADirectoryError, NotADirectoryError) as error:
        raise BrokenModelFile(f"{path}: {error.strerror}. Give the model's config.json.") from error
    except ValueError as error:
        problem = f"not valid JSON ({error})"
        raise BrokenModelFile.at(path, problem, "Give the model's config.json.") from error
    if not isinstance(values, dict):
        problem = f"holds a {type(values).__name__}, not an object"
        raise BrokenModelFile.at(path, problem, "Give the model's config.json.")
    return ModelConfig(str(path), values)
