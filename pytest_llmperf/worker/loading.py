"""What exactly is to be loaded, and how did the load go?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from pytest_llmperf.backends import (
    Backend,
    BackendOptions,
    find_backend,
    installed_version,
    read_options,
)
from pytest_llmperf.models import ModelError, ModelFiles, ModelNotHere, ModelSpec, resolve
from pytest_llmperf.models.weight_files import FileStamp, NotTold, cached_share, stamp, weight_paths
from pytest_llmperf.worker.environment import require_python
from pytest_llmperf.worker.errors import EngineNotInstalled
from pytest_llmperf.worker.messages import Loaded

WARM, COLD = 0.99, 0.01
"""A load is warm, or cold, when at least, or at most, this share of the weights was cached."""


@dataclass(frozen=True)
class Loading:
    """Everything that decides what is loaded; equal loadings share one worker."""

    spec: ModelSpec
    files: ModelFiles | None
    backend: Backend
    options: BackendOptions
    timeout_s: float
    stamps: tuple[FileStamp, ...] = ()
    """The weight files as they were when the model was looked up."""
    python: str | None = None
    """The interpreter of the worker, whose environment has the engine; None: ours."""

    @property
    def requested(self) -> dict[str, str]:
        """The options that are not as the backend has them by itself; values as JSON."""
        usual = msgspec.to_builtins(type(self.options)())
        given = msgspec.to_builtins(self.options)
        return {name: json.dumps(value) for name, value in given.items() if value != usual[name]}

    @property
    def title(self) -> str:
        """What it is, in words: as :func:`title_of`."""
        return title_of(self.backend.name, self.spec, self.files, self.requested)

    @property
    def key(self) -> str:
        """The same text for the same model, unchanged on disk, and the same backend and options."""
        parts = (self.spec, self.backend.name, self.options, self.stamps, self.python)
        return json.dumps([msgspec.to_builtins(part) for part in parts])


def title_of(
    backend: str, spec: ModelSpec, files: ModelFiles | None, requested: Mapping[str, str]
) -> str:
    """``llama-cpp trained:small F16 seed 3 n_threads=2``: the same for what is loaded alike."""
    stored = spec.quantization if files is None else files.quantization
    seed = f"seed {spec.seed}" if spec.seed else ""
    options = (f"{name}={value}" for name, value in requested.items())
    return " ".join(filter(None, (backend, spec.source, stored, seed, *options)))


def choose(
    backend_name: str, options: Mapping[str, object], python: str | None = None
) -> tuple[Backend, BackendOptions]:
    """The backend and its options, checked. Raises EngineNotInstalled, BackendError.

    Whether another ``python`` than ours has the engine shows when its worker starts; that it can
    run one at all is tried here.
    """
    backend = find_backend(backend_name)
    if python is None and installed_version(backend) is None:
        raise EngineNotInstalled(not_installed(backend))
    chosen = read_options(backend, options)
    if python is not None:
        require_python(python)
    return backend, chosen


def not_installed(backend: Backend) -> str:
    """Say that a backend is missing, and how to install it."""
    return f"backend {backend.name} is not installed: {backend.install}"


def prepare(
    spec: ModelSpec,
    backend: Backend,
    options: BackendOptions,
    *,
    timeout_s: float,
    python: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Loading:
    """Find, or build, the model's files; ``python``: of the worker, None is ours.

    A synthetic model of no stated quantization is made in the backend's own. Raises
    ModelUnavailable for what is not on this machine, ModelError for what cannot be meant.
    """
    if spec.quantization is None and spec.is_synthetic:
        spec = msgspec.structs.replace(
            spec, quantization=options.default_quantization(backend.default_quantization)
        )
    model_format = options.model_format(backend.model_format)
    if model_format is None:
        return Loading(spec, None, backend, options, timeout_s, python=python)
    files = resolve(spec, model_format, progress=progress)
    try:
        return Loading(spec, files, backend, options, timeout_s, stamp(files), python)
    except OSError as error:
        raise ModelNotHere(f"{files.path}: {error.strerror} just after it was found.") from error


class LoadFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a model was loaded."""

    load_s: float
    import_s: float
    """What importing the engine took before that."""
    cached_share: float | None
    """Share of the weight files that was in the page cache when the load began."""
    major_faults: int | None
    """Page faults of the load that had to wait for the disk."""
    disk_share: float | None
    """What the load fetched from disk, as a share of the weights."""
    unknown: str | None = None
    """Why ``cached_share`` is not known."""

    @property
    def temperature(self) -> str:
        """``warm``, ``cold``, ``partly cached`` or ``page cache unknown``."""
        cached = self.cached_share
        if cached is None and self.disk_share is not None:
            cached = 1 - self.disk_share
        if cached is None:
            return "page cache unknown"
        if cached >= WARM:
            return "warm"
        return "cold" if cached <= COLD else "partly cached"

    @property
    def how(self) -> str:
        """The temperature with its evidence."""
        if self.cached_share is not None:
            return f"{self.temperature}: {self.cached_share:.0%} of the weights in the page cache"
        if self.disk_share is not None:
            return f"{self.temperature}: {self.disk_share:.0%} of the weights fetched from disk"
        return f"{self.temperature}: {self.unknown}"


def page_cache(files: ModelFiles | None) -> tuple[float | None, str | None]:
    """Share of the weights in the page cache now, or why it is not known."""
    if files is None:
        return None, "the engine needs no files"
    try:
        return cached_share(weight_paths(files)), None
    except (NotTold, ModelError) as reason:
        return None, str(reason)


def load_facts(
    answer: Loaded, cached: tuple[float | None, str | None], files: ModelFiles | None
) -> LoadFacts:
    """Put together what both sides saw of a load."""
    share, unknown = cached
    faults = fetched = None
    if len(answer.usage) == 2:
        before, after = answer.usage
        faults = after.major_faults - before.major_faults
        if files is not None:
            fetched = (after.disk_read_bytes - before.disk_read_bytes) / files.weight_bytes
    return LoadFacts(
        load_s=answer.load_ns / 1e9,
        import_s=answer.import_ns / 1e9,
        cached_share=share,
        major_faults=faults,
        disk_share=fetched,
        unknown=unknown,
    )
