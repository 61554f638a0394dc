"""What does a test use? The fixtures ``hardware``, ``load_model``, ``measure``, ``compare``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_llmperf.assessing import Reading
    from pytest_llmperf.hardware.facts import Hardware
    from pytest_llmperf.measure import Measurement
    from pytest_llmperf.report.result import Comparison
    from pytest_llmperf.session import RunningTest, Session
    from pytest_llmperf.wish import Wish
    from pytest_llmperf.worker.pool import LoadedModel

SESSION: pytest.StashKey[Session] = pytest.StashKey()
TEST_RUN: pytest.StashKey[RunningTest] = pytest.StashKey()
SKIPPED_OFF = "measures only under --llmperf"
_LOADING = ("source", "backend", "quantization", "seed")
"""What ``load_model`` takes beside the engine's own options."""


class LoadModel(Protocol):
    """The type of the ``load_model`` fixture."""

    def __call__(
        self,
        source: str | os.PathLike[str] | None = None,
        *,
        backend: str | None = None,
        quantization: str | None = None,
        seed: int = 0,
        fit: bool = False,
        **options: Any,
    ) -> LoadedModel:
        """Load a model in a worker of its own; equal arguments share one.

        ``source``: ``synthetic:NAME``, ``synthetic:path/config.json``, a local file or folder, or
        ``hf:org/name@revision``; without it, ``--llmperf-model``. ``backend``: its name; without
        it, ``--llmperf-backend``. ``options``: the engine's own, see docs/backends.md. ``fit``:
        choose what the arguments leave open so that the model fits. Skips when the backend, the
        model or the memory for it is not on this machine; fails for what nobody could load.
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
        text: str | os.PathLike[str] | None = None,
        against: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Measurement:
        """Time ``new_tokens`` tokens after a prompt of ``prompt_tokens``, ten times and more.

        ``batch``: so many sequences in step. ``depth``: tokens that each holds already when the
        clock starts. The measurement is judged by the test's ``perf`` limits after its body has
        returned. ``text``: a file, or ``"shipped"``, that the model reads afterwards, for its
        perplexity. ``against``: a reference that reads it, too, as ``load_model`` takes it (source,
        backend and seed are the model's where it says nothing, all else is as usual): KL divergence
        and agreement.
        ``name`` tells several measurements of one test apart.
        """
        ...


class Compare(Protocol):
    """The type of the ``compare`` fixture."""

    def __call__(  # noqa: PLR0913 - the workload, the limits, and what both arms share
        self,
        a: Mapping[str, Any],
        b: Mapping[str, Any],
        *,
        prompt_tokens: int = 512,
        new_tokens: int = 128,
        batch: int = 1,
        depth: int = 0,
        metric: str = "decode_tps",
        min_speedup: float | None = None,
        max_slowdown: float | str | None = None,
        max_memory_ratio: float | None = None,
        max_perplexity_increase: float | str | None = None,
        text: str | os.PathLike[str] | None = None,
        name: str | None = None,
        **both: Any,
    ) -> Comparison:
        """Measure A against B in turns, each time in fresh workers: 3 to 10 pairs, until sure.

        ``a``, ``b``: what each arm has of its own among the arguments of ``load_model``; ``both``:
        what they share. ``min_speedup``: A is at least so many times as fast; ``max_slowdown``: at
        most so much slower ("5%"); ``max_memory_ratio``: it takes at most this share of B's
        memory; ``max_perplexity_increase``: its perplexity over ``text``, a file or ``"shipped"``,
        is at most so much above B's ("2%"). They are judged when the test's body has returned.
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
        fit: bool = False,
        **options: Any,
    ) -> LoadedModel:
        from pytest_llmperf.wish import PerfError, Unmet, Wish

        try:
            return run.load(Wish(source, backend, quantization, seed, options, fit))
        except Unmet as error:
            raise _skip_or_fail(str(error), strict=run.session.settings.strict) from None
        except PerfError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    return load


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Compare:
    """Callable that measures two arms in turns."""
    run = _test_run(request)

    def compare_them(  # noqa: PLR0913 - as Compare
        a: Mapping[str, Any],
        b: Mapping[str, Any],
        *,
        prompt_tokens: int = 512,
        new_tokens: int = 128,
        batch: int = 1,
        depth: int = 0,
        metric: str = "decode_tps",
        min_speedup: float | None = None,
        max_slowdown: float | str | None = None,
        max_memory_ratio: float | None = None,
        max_perplexity_increase: float | str | None = None,
        text: str | os.PathLike[str] | None = None,
        name: str | None = None,
        **both: Any,
    ) -> Comparison:
        from pytest_llmperf.comparing import read_demands, refuse_misspelt
        from pytest_llmperf.gate.budget import BadLimit
        from pytest_llmperf.measure import Workload
        from pytest_llmperf.wish import PerfError, Unmet

        try:
            for own in (a, b):
                given = {**both, **own}
                backend = given.get("backend") or run.session.settings.backend
                refuse_misspelt(given, {*(compare_them.__kwdefaults__ or ()), *_LOADING}, backend)
            demands = read_demands(
                min_speedup, max_slowdown, max_memory_ratio, max_perplexity_increase
            )
            if text is None and demands.max_perplexity_increase is not None:
                text = "shipped"
            workload = Workload(
                prompt_tokens=prompt_tokens, new_tokens=new_tokens, batch=batch, depth=depth
            )
            return run.compare(
                {"a": _wish({**both, **a}), "b": _wish({**both, **b})},
                {"a": _label("A", a), "b": _label("B", b)},
                workload,
                name=name,
                metric=metric,
                demands=demands,
                text=None if text is None else os.fspath(text),
            )
        except Unmet as error:
            raise _skip_or_fail(str(error), strict=run.session.settings.strict) from None
        except (PerfError, BadLimit, ValueError) as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    return compare_them


def _wish(given: Mapping[str, Any]) -> Wish:
    """The arguments of ``load_model``, engine options among them."""
    from pytest_llmperf.wish import Wish

    options = dict(given)
    named = {name: options.pop(name) for name in _LOADING if name in options}
    return Wish(**named, options=options)


def _label(arm: str, given: Mapping[str, Any]) -> str:
    """What an arm is called by what it has of its own: ``A (quantization Q4_K_M)``."""
    own = ", ".join(f"{name} {value}" for name, value in given.items())
    return f"{arm} ({own})" if own else arm


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
        text: str | os.PathLike[str] | None = None,
        against: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Measurement:
        from pytest_llmperf.gate.budget import BadLimit
        from pytest_llmperf.measure import Workload
        from pytest_llmperf.wish import PerfError, Unmet

        try:
            workload = Workload(
                prompt_tokens=prompt_tokens,
                new_tokens=new_tokens,
                batch=batch,
                depth=depth,
                seed=seed,
            )
            return run.measure(model, workload, name, _reading(model, text, against))
        except Unmet as error:
            raise _skip_or_fail(str(error), strict=run.session.settings.strict) from None
        except (PerfError, BadLimit, ValueError) as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    return measure_it


def _reading(
    model: LoadedModel, text: str | os.PathLike[str] | None, against: Mapping[str, Any] | None
) -> Reading | None:
    """What a measurement is to read; None: nothing."""
    from pytest_llmperf.assessing import Reading
    from pytest_llmperf.measure.scoring import SHIPPED

    if text is None and against is None:
        return None
    spec = model.loading.spec
    if against is not None:
        _refuse_wrong_reference(against, model.backend)
    usual = {"source": spec.source, "backend": model.backend, "seed": spec.seed}
    reference = None if against is None else _wish({**usual, **against})
    return Reading(SHIPPED if text is None else os.fspath(text), reference)


def _refuse_wrong_reference(against: Any, usual_backend: str) -> None:
    """Raises BadLimit."""
    from pytest_llmperf.comparing import refuse_misspelt
    from pytest_llmperf.gate.budget import BadLimit

    if not isinstance(against, Mapping):
        raise BadLimit(
            'measure: against is what load_model takes of a reference, such as {"quantization": '
            f'"F16"}}, not {type(against).__name__}'
        )
    refuse_misspelt(against, {*_LOADING}, against.get("backend", usual_backend), "measure: against")


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
