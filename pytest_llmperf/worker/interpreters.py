"""Which Python runs a backend's workers, as ``BACKEND=PATH`` says it?"""

from __future__ import annotations

import re
from pathlib import Path

from pytest_llmperf.backends import BackendError, find_backend

_NEXT_PAIR = re.compile(r"[,\n]\s*(?=[\w-]+=)")
"""What stands between two of them; a comma of a path does not."""


def read_interpreters(text: str) -> dict[str, str]:
    """``vllm=/opt/vllm/bin/python``, one or several; the paths are made absolute.

    Raises ValueError.
    """
    found = {}
    for pair in _NEXT_PAIR.split(text.strip()):
        name, _, path = (part.strip() for part in pair.partition("="))
        if not name or not path:
            raise ValueError(f"{pair!r} must read BACKEND=PATH")
        try:
            find_backend(name)
        except BackendError as error:
            raise ValueError(str(error)) from None
        if name in found:
            raise ValueError(f"names two interpreters of {name}")
        if not Path(path).expanduser().is_file():
            raise ValueError(f"{path}: there is no such file")
        # Not resolved: an environment's python is a link, and known by its own place.
        found[name] = str(Path(path).expanduser().absolute())
    return found
