"""Which well-known models can be planned for that are not here, and what are their shapes?"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.errors import UnknownModel
from pytest_llmperf.models.presets import find_preset


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the catalogue."""

    title: str
    source: str
    """Address of the published ``config.json``."""
    config: dict[str, Any] | None = None
    """Its fields; None: those of the preset of the same name."""


def known() -> tuple[str, ...]:
    """Names of all models in the catalogue."""
    return tuple(_entries())


def find(name: str) -> ModelConfig:
    """Return the config of the model called ``name``, in any case.

    Raises UnknownModel, listing all names and the nearest.
    """
    wanted = name.strip().lower()
    entry = _entries().get(wanted)
    if entry is None:
        near = difflib.get_close_matches(wanted, known(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UnknownModel(
            f"no model in the catalogue is called {name!r}.{hint} Known: {', '.join(known())}; "
            "or give the path of a config.json or of a GGUF file."
        )
    fields = find_preset(wanted) if entry.config is None else entry.config
    return ModelConfig(entry.source, fields)


def entry(name: str) -> Entry:
    """Return the title and the source of a model that :func:`known` names."""
    return _entries()[name]


@cache
def _entries() -> dict[str, Entry]:
    import yaml  # ten milliseconds that only who asks for a model here should pay

    text = resources.files("pytest_llmperf.models").joinpath("catalogue.yaml").read_text("utf-8")
    return msgspec.convert(yaml.safe_load(text), dict[str, Entry])
