"""Gate the speed, memory and output quality of LLM inference in pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmperf.markers import perf, requires

__all__ = ["perf", "requires"]


def __getattr__(name: str) -> object:
    """Import the markers when they are asked for: a worker's environment may have no pytest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytest_llmperf import markers

    return getattr(markers, name)
