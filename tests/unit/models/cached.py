"""The parts of a cache that the tests of its pruning ask for."""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.models.pruning import Cached, contents


def of_kind(root: Path, kind: str) -> Cached:
    """The only one of its kind."""
    (found,) = (each for each in contents(root) if each.kind == kind)
    return found
