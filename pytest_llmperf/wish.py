"""What does a test ask to be loaded, and what may stand in the way?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llmperf.backends.registry import BackendError
from pytest_llmperf.child import Undead
from pytest_llmperf.fit.before_load import DoesNotFit
from pytest_llmperf.fit.room import Room
from pytest_llmperf.gate.baseline import BaselineError
from pytest_llmperf.hardware.lease import LeaseError, cpu_lease
from pytest_llmperf.measure.reading import BadText, TextRequest
from pytest_llmperf.measure.stored_reference import BadReference
from pytest_llmperf.models import ModelError, ModelUnavailable
from pytest_llmperf.report.progress import Progress
from pytest_llmperf.worker.errors import EngineNotInstalled, WorkerError


class Unmet(Exception):
    """Something is not on this machine: the test skips, and under ``--llmperf-strict`` fails."""


class NotRequired(Exception):
    """The machine is not one that the test's ``requires`` asks for: the test skips."""


class PerfError(Exception):
    """The test cannot go on: a mistake in it, or a worker that failed."""


@dataclass(frozen=True)
class Wish:
    """What a test asks to be loaded; what it does not say, the run's options do."""

    source: str | os.PathLike[str] | None = None
    backend: str | None = None
    quantization: str | None = None
    seed: int = 0
    options: Mapping[str, object] = field(default_factory=dict)
    fit: bool | Room = False
    """Whether what it does not say is chosen so that it fits: here, or into a room."""


@dataclass(frozen=True)
class Reading:
    """What of output quality a measurement is to tell."""

    text: TextRequest
    against: Wish | Path | None = None
    """The reference, or the file that keeps what one said; None: perplexity alone."""


@contextlib.contextmanager
def showing(progress: Progress, what: str) -> Iterator[Callable[[str], None]]:
    """Say what is going on; the callable adds a detail."""
    try:
        progress.say(what)
        yield lambda detail: progress.say(f"{what}: {detail}")
    finally:
        progress.clear()


@contextlib.contextmanager
def turn_to_build(say: Callable[[str], None], *, shared: bool) -> Iterator[None]:
    """Have this machine's CPU for finding a model, which may be building one.

    ``shared``: beside those that are timed on GPUs.
    """
    waits = "waits for another measurement on this machine"
    with cpu_lease(shared=shared, on_wait=lambda: say(waits)):
        yield


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Sort what goes wrong below into the two kinds that a test knows."""
    try:
        yield
    except (ModelUnavailable, EngineNotInstalled, DoesNotFit) as error:
        raise Unmet(str(error)) from None
    except (
        ModelError,
        BackendError,
        BadText,
        BadReference,
        WorkerError,
        LeaseError,
        Undead,
        BaselineError,
    ) as error:
        raise PerfError(str(error)) from None


@contextlib.contextmanager
def telling(progress: Progress, what: str) -> Iterator[Callable[[str], None]]:
    """Both: say what is going on, and sort what goes wrong."""
    with explained(), showing(progress, what) as say:
        yield say
