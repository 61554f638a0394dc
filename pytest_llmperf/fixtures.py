"""What does a test use? The fixtures ``hardware``, ``load_model`` and ``measure``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_llmperf.hardware.facts import Hardware
    from pytest_llmperf.measure import Measurement
    from pytest_llmperf.session import RunningTest, Session
    from pytest_llmperf.worker.pool import LoadedModel

SESSION: pytest.StashKey[Session] = pytest.StashKey()
TEST_RUN: pytest.StashKey[RunningTest] = pytest.StashKey()
SKIPPED_OFF = "measures only under --llmperf"


class LoadModel(Protocol):
    """The type of the ``load_model`` fixture."""

    def __call__(
        self,
        source: str | os.PathLike[str] | None = None,
        *,
        backend: str | None = None,
        quantization: str | None = None,
        seed: int = 0,
        **options: Any,
    ) -> LoadedModel:
        """Load a model in a worker of its own; equal arguments share one.

        ``source``: ``synthetic:NAME``, ``synthetic:path/config.json``, a local file or folder, or
        ``hf:org/name@revision``; without it, ``--llmperf-model``. ``backend``: its name; without
        it, ``--llmperf-backend``. ``options``: the engine's own, see docs/backends.md. Skips when
        the backend or the model is not on this machine; fails for what nobody could load.
        """
        ...


class Measure(Protocol):
    """The type of the ``measure`` fixture."""

    def __call__(  # noqa: PLR0913 - each is a word of the workload
        self,
        model: LoadedModel,
        *,
        prompt_tokens: int = 512,
        new_tokens: int = 128,
        batch: int = 1,
        depth: int = 0,
        seed: int = 0,
        name: str | None = None,
    ) -> Measurement:
        """Time ``new_tokens`` tokens after a prompt of ``prompt_tokens``, ten times and more.

        ``batch``: so many sequences in step. ``depth``: tokens that each holds already when the
        clock starts. The measurement is judged by the test's ``perf`` limits after its body has
        returned.
        ``name`` tells several measurements of one test apart.
        """
        ...


@pytest.fixture(scope="session")
def hardware(request: pytest.FixtureRequest) -> Hardware:
    """The machine: CPU, accelerators, memory, fingerprint."""
    return _session(request.config).hardware


@pytest.fixture
def load_model(request: pytest.FixtureRequest) -> LoadModel:
    """Callable that loads a model in a process of its own."""
    run = _test_run(request)

    def load(
        source: str | os.PathLike[str] | None = None,
        *,
        backend: str | None = None,
        quantization: str | None = None,
        seed: int = 0,
        **options: Any,
    ) -> LoadedModel:
        from pytest_llmperf.session import PerfError, Unmet

        try:
            return run.load(source, backend, quantization, seed, options)
        except Unmet as error:
            raise _skip_or_fail(str(error), strict=run.session.settings.strict) from None
        except PerfError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    return load


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """Callable that measures a loaded model."""
    run = _test_run(request)

    def measure_it(  # noqa: PLR0913 - as Measure
        model: LoadedModel,
        *,
        prompt_tokens: int = 512,
        new_tokens: int = 128,
        batch: int = 1,
        depth: int = 0,
        seed: int = 0,
        name: str | None = None,
    ) -> Measurement:
        from pytest_llmperf.measure import Workload
        from pytest_llmperf.session import PerfError

        try:
            workload = Workload(
                prompt_tokens=prompt_tokens,
                new_tokens=new_tokens,
                batch=batch,
                depth=depth,
                seed=seed,
            )
            return run.measure(model, workload, name)
        except (PerfError, ValueError) as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    return measure_it


def _session(config: pytest.Config) -> Session:
    if SESSION not in config.stash:
        pytest.skip(SKIPPED_OFF)
    return config.stash[SESSION]


def _test_run(request: pytest.FixtureRequest) -> RunningTest:
    _session(request.config)
    run: RunningTest | None = request.node.stash.get(TEST_RUN, None)
    if run is None:  # the fixture was asked for by name, after the markers were read
        text = (
            "load_model and measure must stand among the arguments of the test or of one of its "
            "fixtures: getfixturevalue comes too late for the test's markers to be checked"
        )
        raise pytest.fail.Exception(text, pytrace=False)
    return run


def _skip_or_fail(reason: str, *, strict: bool) -> BaseException:
    if strict:
        text = f"{reason} (would skip without --llmperf-strict)"
        return pytest.fail.Exception(text, pytrace=False)
    return pytest.skip.Exception(reason)
