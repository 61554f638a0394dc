"""Which files on this machine are the model that a spec means?"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from pytest_llmperf.models.cache import cache_root, free_bytes
from pytest_llmperf.models.describe import describe
from pytest_llmperf.models.errors import InvalidSource, ModelNotHere
from pytest_llmperf.models.formats import Format
from pytest_llmperf.models.hub import find_snapshot, not_downloaded
from pytest_llmperf.models.presets import PRESETS
from pytest_llmperf.models.spec import ModelFiles, ModelSpec
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
    path = Path(spec.source).expanduser().absolute()
    if not path.exists():
        _refuse_misspelt(spec.source)
    return describe(path, format, spec.quantization)


def _refuse_misspelt(source: str) -> None:
    """Tell a source that can only be a mistake from a file that is not here (the caller skips).

    Raises InvalidSource.
    """
    if source in PRESETS:
        raise InvalidSource(f"model source {source!r}: did you mean 'synthetic:{source}'?")
    scheme, colon, _ = source.partition(":")
    if colon and len(scheme) > 1 and scheme.isalpha():
        close = difflib.get_close_matches(scheme, ("synthetic", "trained", "hf"), n=1)
        meant = (
            f"did you mean '{close[0]}:'?" if close else "there are synthetic:, trained: and hf:"
        )
        raise InvalidSource(f"model source {source!r}: '{scheme}:' is no kind of source; {meant}")


def _unseen(stage: str, fraction: float) -> None:
    """Take progress that nobody asked for."""
