"""What lies in the cache, and what of it may go?

When a model was last looked up is the time of its lock's file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pytest_llmperf.models.cache import LOCKS, PARTIAL, Entry

ENVIRONMENTS = "environments"
_MODELS = "models"
_DAY_S = 24 * 3600.0


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """One folder in the cache."""

    kind: str
    """``model``, ``partial`` (of a build or a removal that did not end), ``environment`` or
    ``tool``."""
    path: str
    bytes: int
    used_s: float
    """When it was last looked up, or else changed; seconds since 1970."""


@dataclass(frozen=True)
class Choice:
    """What was asked to go."""

    go: list[Cached] = field(default_factory=list)
    """Partial builds first, then those that were not used for longest."""
    used: list[Cached] = field(default_factory=list)
    """In use, so that others go in their place or more stays."""


def contents(root: Path) -> list[Cached]:
    """Everything, the models first; environments take a while to add up."""
    others = [folder for parent in _folders(root) for folder in _folders(parent)]
    elsewhere = (folder for folder in others if folder.parent.name != _MODELS)
    return [*models(root), *_found(elsewhere)]


def models(root: Path) -> list[Cached]:
    """Models, and what builds and removals left behind."""
    return list(_found(_folders(root / _MODELS)))


def model_bytes(root: Path) -> int:
    """What the models take on the disk."""
    return sum(each.bytes for each in models(root))


def chosen(
    cached: Sequence[Cached],
    *,
    is_used: Callable[[Cached], bool],
    now_s: float,
    older_than_days: float = 0.0,
    keep_bytes: int = 0,
    environments: bool = False,
) -> Choice:
    """What goes of what is asked for: not what is in use. Partial builds always.

    Models not used for so many days go until the rest of them, those in use included, takes
    ``keep_bytes``; environments, which take minutes to make, only if asked for.
    """
    choice = Choice()
    kept = sum(each.bytes for each in cached if each.kind == "model")
    for each in sorted(cached, key=lambda each: (each.kind != "partial", each.used_s)):
        is_old = now_s - each.used_s >= older_than_days * _DAY_S
        is_asked_for = {
            "partial": True,
            "model": is_old and kept > keep_bytes,
            "environment": is_old and environments,
        }
        if not is_asked_for.get(each.kind, False):
            continue
        if is_used(each):
            choice.used.append(each)
            continue
        choice.go.append(each)
        kept -= each.bytes if each.kind == "model" else 0
    return choice


def _found(folders: Iterable[Path]) -> Iterator[Cached]:
    """What is still there: builds end and others prune while we look."""
    for folder in folders:
        kind = _kind(folder)
        found = _cached(kind, folder) if kind else None
        if found is not None:
            yield found


def _kind(folder: Path) -> str:
    """As :attr:`Cached.kind`; empty for what is only our own."""
    if folder.name == LOCKS:
        return ""
    place = folder.parent.name
    if folder.name.startswith(PARTIAL) and place in {_MODELS, ENVIRONMENTS}:
        return "partial"
    return {_MODELS: "model", ENVIRONMENTS: "environment"}.get(place, "tool")


def _cached(kind: str, folder: Path) -> Cached | None:
    """None: it went meanwhile."""
    try:
        stamps = [folder.stat().st_mtime]
        if kind == "model":
            used = Entry(folder).lock_file("used")
            stamps += [used.stat().st_mtime] if used.exists() else []
    except OSError:
        return None
    return Cached(kind=kind, path=str(folder), bytes=_size(folder), used_s=max(stamps))


def _size(folder: Path) -> int:
    """On the disk, as far as it can be read; what is linked is not in it."""
    return sum(_blocks(Path(at) / name) for at, _, names in os.walk(folder) for name in names)


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:  # it went meanwhile
        return 0


def _folders(folder: Path) -> Iterable[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())
    except OSError:
        return ()
