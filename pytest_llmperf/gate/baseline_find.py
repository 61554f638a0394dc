"""Which pairs does a person mean: by machine, by a part of a test's name, by what is gone?"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from pytest_llmperf.gate.baseline import Baseline, BaselineError, PairKey
from pytest_llmperf.gate.baseline_file import BaselineStore, fingerprints
from pytest_llmperf.gate.baseline_overview import Overview, cohorts_for, overview
from pytest_llmperf.gate.statistics import Cohort

_NEAR = 3


class NoBaselines(BaselineError):
    """There are none of the machines that were asked for."""


class NoSuchTest(BaselineError):
    """No baseline is of a test like this."""


class BadCollection(BaselineError):
    """A list of tests that does not hold all of them: what it lacks must not count as gone."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One pair, where it stands, and what it comes to."""

    fingerprint: str
    module: str
    key: PairKey
    overview: Overview
    baseline: Baseline
    cohort: Cohort | None
    """What the others of its kind teach; None: it is no speed."""

    @property
    def test(self) -> str:
        """Its node id."""
        return f"{self.module}::{self.key.test}"

    @property
    def text(self) -> str:
        """As a message names it."""
        return f"{self.test} {self.key.metric} (measurement {self.key.measure}, {self.key.config})"


def of_machines(root: Path, names: Sequence[str]) -> list[Pair]:
    """All pairs of these fingerprints, which may have ``*`` and ``?`` in them.

    Raises NoBaselines, and BrokenBaseline for a file that cannot be read.
    """
    known = fingerprints(root)
    named = [each for each in known if any(fnmatch.fnmatchcase(each, name) for name in names)]
    found = [pair for each in named for pair in _of_machine(root, each)]
    if not found:
        remedy = "Record some: pytest --llmperf --llmperf-record, or pytest-llmperf baseline seed"
        if known:
            remedy = f"There are some of {', '.join(known)}: name one with --fingerprint"
        raise NoBaselines(f"{root}: no baselines of {' or '.join(names)}. {remedy}")
    return found


def _of_machine(root: Path, fingerprint: str) -> list[Pair]:
    store = BaselineStore(root, fingerprint)
    read = {module: store.read(module).pairs for module in store.modules()}
    learned = cohorts_for(each for pairs in read.values() for each in pairs.values())
    return [
        Pair(
            fingerprint=fingerprint,
            module=module,
            key=key,
            overview=overview(baseline, learned.get(key.metric)),
            baseline=baseline,
            cohort=learned.get(key.metric),
        )
        for module, pairs in read.items()
        for key, baseline in sorted(pairs.items())
    ]


def matching(pairs: Sequence[Pair], pattern: str) -> list[Pair]:
    """Those whose test has the pattern in its node id. Raises NoSuchTest that names near ones."""
    found = [pair for pair in pairs if pattern in pair.test]
    if not found:
        near = nearest(pattern, {pair.test for pair in pairs})
        raise NoSuchTest(f"no test has {pattern!r} in its name; near: {', '.join(near)}")
    return found


def of_tests(pairs: Sequence[Pair], tests: Collection[str]) -> list[Pair]:
    """Those of these node ids. Raises NoSuchTest for one that has no baseline."""
    known = {pair.test for pair in pairs}
    for test in tests:
        if test not in known:
            near = ", ".join(nearest(test, known))
            raise NoSuchTest(f"{test} has no baseline; near: {near}")
    return [pair for pair in pairs if pair.test in tests]


def missing(pairs: Sequence[Pair], collected: Path) -> list[Pair]:
    """Those whose test is not in a file of ``pytest --collect-only -q``. Raises BadCollection."""
    remedy = "Make it with: pytest --collect-only -q > FILE"
    try:
        lines = collected.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadCollection(f"{collected}: cannot be read: {error}. {remedy}") from error
    errors = [line for line in lines if line.startswith("ERROR ")]
    if errors:
        raise BadCollection(f"{collected}: the collection is not whole: {errors[0]}")
    there = {line.strip() for line in lines if "::" in line}
    if not there:
        raise BadCollection(f"{collected}: no test is in it. {remedy}")
    return [pair for pair in pairs if pair.test not in there]


def nearest(name: str, among: Iterable[str]) -> list[str]:
    """The few that read most like ``name``, with their module or without it."""

    def unlikeness(test: str) -> float:
        parts = (test, test.partition("::")[2])
        return -max(difflib.SequenceMatcher(None, name, part).ratio() for part in parts)

    return sorted(sorted(among), key=unlikeness)[:_NEAR]
