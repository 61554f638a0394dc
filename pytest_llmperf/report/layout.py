"""How does a JSON file lie on its lines? Indented, but a list of numbers and texts on one."""

from __future__ import annotations

import re

import msgspec

_TEXT = rb'"(?:[^"\\]++|\\.)*+"'
_PLAIN = rb'[^"\[\]{}]++'
_INNER = rb"\[(?:" + _PLAIN + rb"|" + _TEXT + rb")*+\]"
_ON_ONE_LINE = re.compile(_TEXT + rb"|\[(?:" + _PLAIN + rb"|" + _TEXT + rb"|" + _INNER + rb")*+\]")
"""A text that stands alone is found first, so that no bracket within it is taken for an array."""


def laid_out(anything: object) -> bytes:
    """JSON for people and for their tools; a list of lists without objects is on one line, too.

    A line for each number is mostly spaces: more than half of what a baseline's sessions take.
    """
    indented = msgspec.json.format(msgspec.json.encode(anything), indent=1)
    return _ON_ONE_LINE.sub(_tight, indented) + b"\n"


def _tight(found: re.Match[bytes]) -> bytes:
    text = found[0]
    return text if text.startswith(b'"') else msgspec.json.format(text, indent=-1)
