"""What does a test use? The fixtures ``hardware``, ``load_model``, ``measure``, ``compare``."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_llmperf.fit.room import Room
    from pytest_llmperf.hardware.facts import Hardware
    from pytest_llmperf.measure import Measurement
    from pytest_llmperf.report.result import Comparison
    from pytest_llmperf.running_test import RunningTest
    from pytest_llmperf.session import Session
    from pytest_llmperf.wish import Reading, Wish
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
        fit: bool | Room = False,
        **options: Any,
    ) -> LoadedModel:
        """Load a model in a worker of its own; equal arguments share one.

        ``source``: ``synthetic:NAME``, ``synthetic:path/config.json``, a local file or folder, or
        ``hf:org/name@revision``; without it, ``--llmperf-model``. ``backend``: its name; without
        it, ``--llmperf-backend``. ``options``: the engine's own, see docs/backends.md. ``fit``:
        choose what the arguments leave open so that the model fits: here, or into a room. Skips
        when the backend, the model or the memory for it is not on this machine; fails for what
        nobody could load.
        """
        ...


class Measure(Protocol):
    """The type of the ``measure`` fixture."""

    def __call__(  # noqa: PLR0913 - each is a word of the workload
        self,
        model: LoadedModel,
        *,
        prompt_tokens: int = 512,
        new_tokens: int | tuple[int, int] = 128,
        batch: int = 1,
        depth: int = 0,
        seed: int = 0,
        prompts: str | os.PathLike[str] = "random",
        text: str | os.PathLike[str] | None = None,
        against: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        window_tokens: int | None = None,
        name: str | None = None,
    ) -> Measurement:
        """Time ``new_tokens`` tokens after a prompt of ``prompt_tokens``, ten times and more.

        ``batch``: so many sequences in step. ``new_tokens=(8, 64)``: a queue of so many requests
        instead, their lengths spread from 8 to 64, timed as a whole. ``depth``: tokens that each
        holds already when the clock starts. ``prompts``: ``"random"`` token ids, passages of a text
        file, or of the ``"shipped"`` one: for what depends on what is said, such as drafts. The
        measurement is judged by the test's ``perf`` limits after its body has returned. ``text``: a
        file, or ``"shipped"``, that the model reads afterwards, for its perplexity. ``against``: a
        reference that reads it, too, as ``load_model`` takes it (source, backend and seed are the
        model's where it says nothing, all else is as usual), or the file that ``pytest-llmperf
        reference`` made of one: KL divergence and agreement. ``window_tokens``: how much of the
        text is read at once, instead of 512. ``name`` tells several measurements of one test apart.
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
        new_tokens: int | tuple[int, int] = 128,
        batch: int = 1,
        depth: int = 0,
        prompts: str | os.PathLike[str] = "random",
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
        fit: bool | Room = False,
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
        new_tokens: int | tuple[int, int] = 128,
        batch: int = 1,
        depth: int = 0,
        prompts: str | os.PathLike[str] = "random",
        metric: str = "decode_tps",
        min_speedup: float | None = None,
        max_slowdown: float | str | None = None,
        max_memory_ratio: float | None = None,
        max_perplexity_increase: float | str | None = None,
        text: str | os.PathLike[str] | None = None,
        name: str | None = None,
        **both: Any,
    ) -> Comparison:
        from pytest_llmperf.comparing import read_demands
        from pytest_llmperf.measure import Workload

        with _refusals(run):
            _refuse_misspelt(run, {**both, **a}, compare_them.__kwdefaults__ or ())
            _refuse_misspelt(run, {**both, **b}, compare_them.__kwdefaults__ or ())
            demands = read_demands(
                min_speedup, max_slowdown, max_memory_ratio, max_perplexity_increase
            )
            if text is None and demands.max_perplexity_increase is not None:
                text = "shipped"
            workload = Workload(
                prompt_tokens=prompt_tokens,
                **_lengths(new_tokens),
                batch=batch,
                depth=depth,
                prompts=_named(prompts),
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

    return compare_them


@contextmanager
def _refusals(run: RunningTest) -> Iterator[None]:
    """What is not on this machine skips the test, a mistake fails it: in words, no traceback."""
    from pytest_llmperf.gate.budget import BadLimit
    from pytest_llmperf.wish import PerfError, Unmet

    try:
        yield
    except Unmet as error:
        raise _skip_or_fail(str(error), strict=run.session.settings.strict) from None
    except (PerfError, BadLimit, ValueError) as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _refuse_misspelt(run: RunningTest, given: Mapping[str, Any], ours: Collection[str]) -> None:
    """Of one arm, before anything is loaded. Raises BadLimit."""
    from pytest_llmperf.comparing import refuse_misspelt

    backend = given.get("backend") or run.session.settings.backend
    refuse_misspelt(given, {*ours, *_LOADING}, backend)


def _wish(given: Mapping[str, Any]) -> Wish:
    """The arguments of ``load_model``, engine options among them."""
    from pytest_llmperf.wish import Wish

    options = dict(given)
    named = {name: options.pop(name) for name in _LOADING if name in options}
    return Wish(**named, options=options)


def _named(text: str | os.PathLike[str]) -> str:
    """The path as text; what is none is refused where it is used."""
    return os.fspath(text) if isinstance(text, os.PathLike) else text


def _lengths(new_tokens: int | tuple[int, int]) -> dict[str, int]:
    """Of all requests, or of the shortest and the longest of a queue. Raises ValueError."""
    if not isinstance(new_tokens, tuple):
        return {"new_tokens": new_tokens}
    if len(new_tokens) != 2:
        raise ValueError(
            "new_tokens must be a number, or those of the shortest and of the longest request of "
            f"a queue, such as (8, 64), not {new_tokens!r}"
        )
    shortest, longest = new_tokens
    return {"shortest": shortest, "new_tokens": longest}


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
        new_tokens: int | tuple[int, int] = 128,
        batch: int = 1,
        depth: int = 0,
        seed: int = 0,
        prompts: str | os.PathLike[str] = "random",
        text: str | os.PathLike[str] | None = None,
        against: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        window_tokens: int | None = None,
        name: str | None = None,
    ) -> Measurement:
        from pytest_llmperf.measure import Workload

        with _refusals(run):
            workload = Workload(
                prompt_tokens=prompt_tokens,
                **_lengths(new_tokens),
                batch=batch,
                depth=depth,
                seed=seed,
                prompts=_named(prompts),
            )
            return run.measure(model, workload, name, _reading(model, text, against, window_tokens))

    return measure_it


def _reading(
    model: LoadedModel,
    text: str | os.PathLike[str] | None,
    against: Mapping[str, Any] | str | os.PathLike[str] | None,
    window_tokens: int | None,
) -> Reading | None:
    """What a measurement is to read; None: nothing."""
    from pytest_llmperf.gate.budget import BadLimit
    from pytest_llmperf.measure.reading import SHIPPED, TextRequest
    from pytest_llmperf.wish import Reading

    if text is None and against is None:
        if window_tokens is not None:
            raise BadLimit("measure: window_tokens needs a text to read: text='shipped', or a file")
        return None
    reference = None if against is None else _reference(model, against)
    name = SHIPPED if text is None else os.fspath(text)
    return Reading(TextRequest(name, window_tokens), reference)


def _reference(model: LoadedModel, against: object) -> Wish | Path:
    """What is to be loaded, or a file. Raises BadLimit."""
    from pytest_llmperf.comparing import refuse_misspelt
    from pytest_llmperf.gate.budget import BadLimit

    if isinstance(against, (str, os.PathLike)):
        return Path(against).expanduser()
    if not isinstance(against, Mapping):
        raise BadLimit(
            'measure: against is what load_model takes of a reference, such as {"quantization": '
            f'"F16"}}, or a file of pytest-llmperf reference, not {type(against).__name__}'
        )
    usual_backend, spec = model.backend, model.loading.spec
    refuse_misspelt(against, {*_LOADING}, against.get("backend", usual_backend), "measure: against")
    usual = {"source": spec.source, "backend": usual_backend, "seed": spec.seed}
    return _wish({**usual, **against})


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
