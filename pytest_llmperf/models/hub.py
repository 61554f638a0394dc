"""Where on this machine has Hugging Face's cache put a repository?

Nothing is downloaded. Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
from pathlib import Path

from pytest_llmperf.models.errors import ModelNotHere
from pytest_llmperf.models.spec import hub_parts


def hub_cache() -> Path:
    """Return the folder that holds the cached repositories, as ``huggingface_hub`` finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    general = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(general).expanduser() / "huggingface" / "hub"


def find_snapshot(source: str) -> Path:
    """Return the folder of the snapshot that ``hf:org/name@revision`` names.

    Raises InvalidSource for a malformed source, ModelNotHere, with the line that downloads it,
    when it is not in the cache.
    """
    parts = hub_parts(source)
    repository = hub_cache() / f"models--{parts.org}--{parts.name}"
    reference = repository / "refs" / parts.revision
    commit = reference.read_text().strip() if reference.is_file() else parts.revision
    snapshot = repository / "snapshots" / commit
    if "/" in commit or not snapshot.is_dir():
        raise not_downloaded(source, f"{repository} has no such snapshot")
    return snapshot


def not_downloaded(source: str, finding: str) -> ModelNotHere:
    """Make the error that tells how to download ``source``."""
    parts = hub_parts(source)
    line = f"hf download {parts.org}/{parts.name} --revision {parts.revision}"
    return ModelNotHere(f"{source} is not on this machine ({finding}). Download it with: {line}")
