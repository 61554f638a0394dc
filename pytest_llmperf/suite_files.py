"""Where are the acceptance suites that come with the package?"""

from __future__ import annotations

import difflib
from pathlib import Path


class UnknownSuite(Exception):
    """No suite has this name; the message lists those there are."""


def suites_folder() -> Path:
    """The folder of suites: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "suites"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "suites"


def suite_paths(name: str) -> list[Path]:
    """The suite called ``name`` (``smoke`` is test_smoke.py); "" is all. Raises UnknownSuite."""
    known = {path.stem.removeprefix("test_"): path for path in suites_folder().glob("test_*.py")}
    if not name:
        return [known[each] for each in sorted(known)]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f", did you mean {close[0]!r}?" if close else ""
        raise UnknownSuite(f"no suite {name!r}{meant}; there are: {', '.join(sorted(known))}")
    return [known[name]]
