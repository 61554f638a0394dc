"""What is a device called, without vendor, trademark signs and decoration?"""

from __future__ import annotations

import re

_DECORATION = re.compile(
    r"\((?:R|TM|C)\)|[®™©]|\b(?:NVIDIA|GeForce|AMD|ATI|Intel|Apple|Corporation)\b", re.IGNORECASE
)


def normalized(name: str) -> str:
    """``NVIDIA GeForce RTX 4060 Ti`` → ``RTX 4060 Ti``; the name itself if nothing is left."""
    stripped = " ".join(_DECORATION.sub(" ", name).split())
    return stripped or " ".join(name.split())


def slug(name: str) -> str:
    """Lower case letters, digits, dots and underscores, all else one hyphen: a folder's name."""
    return re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-.")
