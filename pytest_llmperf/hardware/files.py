"""What does a small system file say?

Files under /proc, /sys and /etc come and go with kernels, drivers and containers: one that is
absent or unreadable is an unknown fact (None), not an error.
"""

from __future__ import annotations

from pathlib import Path

_UNIT = {"K": 2**10, "M": 2**20, "G": 2**30}


def text(path: Path) -> str | None:
    """The file's text, stripped of white space and NUL; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \t\r\n\0")
    except OSError:
        return None


def integer(path: Path) -> int | None:
    """The integer that is the file's whole text (decimal or 0x…), else None."""
    return number(text(path))


def number(value: str | None) -> int | None:
    """The integer that a text states (decimal, or hexadecimal after 0x), else None."""
    if value is None:
        return None
    try:
        return int(value, 16) if value.startswith("0x") else int(value)
    except ValueError:
        return None


def pairs(path: Path) -> dict[str, int]:
    """Lines of the form ``name value`` or ``name: value kB`` as name → value, in bytes if kB."""
    found: dict[str, int] = {}
    for line in (text(path) or "").splitlines():
        words = line.replace(":", " ").split()
        value = number(words[1]) if len(words) > 1 else None
        if value is not None:
            found[words[0]] = value * 1024 if words[2:] == ["kB"] else value
    return found


def size_bytes(path: Path) -> int | None:
    """A size as sysfs writes it, such as ``1024K``, in bytes; None if it is not one."""
    value = text(path) or ""
    factor = _UNIT.get(value[-1:], 1)
    count = number(value.rstrip("KMG"))
    return None if count is None else count * factor
