"""Texts that are shipped: what they are and where they come from stands in README.md."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
MEASURED = _HERE / "wonderland.txt"
"""Output quality is measured on its beginning."""
TRAINED_ON = _HERE / "as_you_like_it.txt"
"""The small models read it, and what of the other is not measured."""
