"""What does a test demand? Its ``perf`` and ``requires`` markers, typed, read and checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from pytest_llmperf.limits import PerfLimits

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pytest_llmperf.gate.budget import Limits
    from pytest_llmperf.hardware import Requirement

FIXTURES_MODULE = "pytest_llmperf.fixtures"

MARKER_LINES = (
    "perf(min_tps=…, max_ttft_ms=…, max_ram_gb=…, …): limits of what pytest-llmperf measures",
    "requires(gpu=True, vram_gb=…, cpu=…, …): what pytest-llmperf skips the test without",
)


SUITE_MARKER_LINES = (
    "quick: a test of an acceptance suite that its short form has, too",
    "claim(text, instead=…): what a test of an acceptance suite is about; what is true instead",
)


class Requires(TypedDict, total=False):
    """Keywords of ``requires``."""

    gpu: bool
    gpus: int
    vram_gb: float
    ram_gb: float
    compute_capability: str
    cpu: str
    backend: str
    device: str


class BadMarker(Exception):
    """A marker's keyword or value means nothing; the message names the test and the keyword."""


def perf(**limits: Unpack[PerfLimits]) -> pytest.MarkDecorator:
    """``@pytest.mark.perf`` with types: an editor completes and checks the limits."""
    return pytest.mark.perf(**limits)


def requires(**needs: Unpack[Requires]) -> pytest.MarkDecorator:
    """``@pytest.mark.requires`` with types."""
    return pytest.mark.requires(**needs)


def is_ours(item: pytest.Item) -> bool:
    """Whether a test uses a fixture of this package.

    Asked by definition and not by name: somebody else's ``measure`` is none of our business,
    unless it is made from ours.
    """
    info = getattr(item, "_fixtureinfo", None)
    found: dict[str, Any] = {} if info is None else info.name2fixturedefs
    return any(_comes_from_us(name, definitions) for name, definitions in found.items())


def _comes_from_us(name: str, definitions: Sequence[Any]) -> bool:
    """Follow a fixture's overriding definitions back, as far as each asks for the one before."""
    for definition in reversed(definitions):
        if getattr(inspect.unwrap(definition.func), "__module__", None) == FIXTURES_MODULE:
            return True
        if name not in definition.argnames:
            return False
    return False


def read_perf(where: str, marks: Iterable[pytest.Mark]) -> Limits:
    """The limits of all ``perf`` marks, the closest first. Raises BadMarker naming ``where``."""
    from pytest_llmperf.gate.budget import BadLimit, read_limits, subject

    given = _keywords(where, "perf", marks, subject)
    try:
        return read_limits(given)
    except BadLimit as error:
        raise BadMarker(f"{where}: @perf: {error}") from None


def read_requires(where: str, marks: Iterable[pytest.Mark]) -> Requirement:
    """What all ``requires`` marks ask for, the closest first. Raises BadMarker."""
    from pytest_llmperf.hardware import BadRequirement, read_requirement

    given = _keywords(where, "requires", marks, str)
    try:
        return read_requirement(given)
    except BadRequirement as error:
        raise BadMarker(f"{where}: @requires: {error}") from None


def _keywords(
    where: str, name: str, marks: Iterable[pytest.Mark], subject: Callable[[str], object]
) -> dict[str, object]:
    """What all marks together say; of two that speak of the same ``subject`` the first wins."""
    given: dict[str, object] = {}
    for mark in marks:
        if mark.args:
            raise BadMarker(f"{where}: @{name} takes keywords only, not {mark.args[0]!r}")
        taken = {subject(keyword) for keyword in given}
        given |= {key: value for key, value in mark.kwargs.items() if subject(key) not in taken}
    return given


def check_markers(where: str, marks: Iterable[pytest.Mark]) -> None:
    """Check every mark of a test by itself. Raises BadMarker."""
    for mark in marks:
        if mark.name == "perf":
            read_perf(where, [mark])
        elif mark.name == "requires":
            read_requires(where, [mark])
