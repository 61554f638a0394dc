"""Which files on this machine are the model that a spec means?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_llmperf.models.cache import cache_root, free_bytes
from pytest_llmperf.models.describe import describe
from pytest_llmperf.models.errors import ModelNotHere
from pytest_llmperf.models.hub import find_snapshot, not_downloaded
from pytest_llmperf.models.spec import Format, ModelFiles, ModelSpec
from pytest_llmperf.models.synthetic import SyntheticModel, obtain


def resolve(
    spec: ModelSpec,
    format: Format,  # noqa: A002 - the word of the interface
    *,
    progress: Callable[[str, float], None] | None = None,
    cache: Path | None = None,
    timeout_s: float | None = None,
    free: Callable[[Path], int] = free_bytes,
) -> ModelFiles:
    """Find or build the model and describe its files.

    ``progress`` is called with a stage and its fraction while a synthetic model is built;
    ``cache`` replaces the root of the cache; ``timeout_s`` limits waiting and building together;
    ``free`` tells how many bytes the disk of a folder has left. Nothing is ever downloaded.

    Raises ModelUnavailable (a caller skips) when files or packages are not on this machine, and
    any other ModelError (a caller fails) when the request, a file or the build is bad.
    """
    if spec.is_synthetic:
        models = (cache or cache_root()).absolute() / "models"
        model = SyntheticModel.of(spec, format)
        return obtain(model, models, progress or _unseen, timeout_s, free)
    if spec.is_on_hub:
        snapshot = find_snapshot(spec.source)
        try:
            return describe(snapshot, format, spec.quantization)
        except ModelNotHere as error:
            raise not_downloaded(spec.source, str(error)) from error
    return describe(Path(spec.source).expanduser().absolute(), format, spec.quantization)


def _unseen(stage: str, fraction: float) -> None:
    """Take progress that nobody asked for."""
