"""What do the baselines say of one measurement? Reads them once, and asks the judge."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from pytest_llmperf.gate.baseline import Baseline, PairKey
from pytest_llmperf.gate.baseline_file import BaselineStore
from pytest_llmperf.gate.cohort import cohorts
from pytest_llmperf.gate.machine import conditions_of
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import (
    SIZES,
    SPEEDS,
    PairResult,
    earlier_of,
    gated_metrics,
    key_of,
    mean,
    seed_runs,
    split_nodeid,
    summarize,
)
from pytest_llmperf.gate.past import counted
from pytest_llmperf.gate.size import judge_size
from pytest_llmperf.gate.slope import at_usual_cores, within_history
from pytest_llmperf.gate.statistics import Cohort, estimate
from pytest_llmperf.gate.suite import SuiteShift, suite_shift
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary
from pytest_llmperf.gate.verdict import (
    LEAST_SESSIONS,
    SECOND_LOOKS_CPU,
    SECOND_LOOKS_GPU,
    TOLERANCE,
    Cause,
    Judgement,
    judge,
)
from pytest_llmperf.hardware.core_speed import CHECKSUM
from pytest_llmperf.measure import Measurement


@dataclass(frozen=True)
class Suspect:
    """One pair on its way to a verdict."""

    module: str
    key: PairKey
    fingerprint: str
    baseline: Baseline
    tolerance: float
    cohort: Cohort
    looks: tuple[InvocationSummary, ...]
    judgement: Judgement
    is_gated: bool
    """Whether its verdict counts: it has a baseline, or its test demands one."""

    def looked_at(self, fresh: Sequence[Measurement]) -> Suspect:
        """Judged once more, with what fresh workers measured."""
        metric = self.key.metric
        seen = [each for each in fresh if not each.invalid and metric in each.metrics]
        if self.is_size:
            seen = seen[:1]  # the more are asked, the more likely one of them acquits
        looks = (self.looks[0], *(summarize(each, metric, self.baseline) for each in seen))
        judgement = _judge(self.key, self.baseline, looks, self.tolerance, self.cohort)
        return replace(self, looks=looks, judgement=judgement)

    def unseen(self, why: str) -> Suspect:
        """All of its fresh workers failed."""
        if not self.judgement.wants_second_look:
            return self
        reason = f"suspect, and its second look failed: {why}"
        return replace(self, judgement=msgspec.structs.replace(self.judgement, reasons=(reason,)))

    @property
    def is_size(self) -> bool:
        """Whether one fresh worker is enough to confirm it."""
        return self.key.metric in SIZES

    def result(self, measurement: Measurement) -> PairResult:
        """What reports show and baselines keep."""
        whole = mean(self.looks)
        sign = 1.0 if BY_NAME[self.key.metric].better == "higher" else -1.0
        history = self.baseline.history
        normal = None
        if history and self.judgement.cause is not Cause.UNCOMPUTABLE:
            normal = math.exp(sign * self._normal(whole))
        return PairResult(
            module=self.module,
            key=self.key,
            fingerprint=self.fingerprint,
            is_gated=self.is_gated,
            verdict=self.judgement.verdict,
            tolerance=self.tolerance,
            judgement=self.judgement,
            normal=normal,
            since=f"{self.baseline.sessions[-1].date:%Y-%m-%d}" if history else None,
            value=math.exp(sign * whole.log_value),
            looks=list(self.looks),
            conditions=conditions_of(measurement),
            software={measurement.backend: measurement.version, **CHECKSUM},
            seed_runs=seed_runs(self.baseline),
            earlier=earlier_of(self.baseline),
        )

    def _normal(self, whole: InvocationSummary) -> float:
        """What ``whole`` would have been by its history, on the machine as it was today."""
        history: Sequence[SessionSummary] = self.baseline.history
        look = whole
        (seen,) = within_history(history, [whole])
        if self.judgement.core_weight:
            cores = at_usual_cores(history, [seen])
            history, (look,) = cores.history, cores.looks
        noise = estimate(history, self.cohort, use_probe=self.judgement.probe_weight > 0)
        of_cores = whole.log_value - look.log_value
        return noise.centre + noise.probe_weight * (seen.log_probe or 0.0) + of_cores


def _moved(other: str, key: PairKey) -> str:
    """Why a test with a baseline has none now."""
    return (
        f"its baseline is of another configuration, {other!r}, and this is {key.config!r}: "
        "record this one with --llmperf-record"
    )


def looks_wanted(suspects: Sequence[Suspect], device: str, most: int | None = None) -> int:
    """How many fresh workers are to look again; 0: nothing is in doubt.

    ``most``: what the user asked for instead of the usual number.
    """
    doubted = [each for each in suspects if each.is_gated and each.judgement.wants_second_look]
    if not doubted:
        return 0
    if all(each.is_size for each in doubted):
        return 1 if most is None else min(1, most)
    usual = SECOND_LOOKS_CPU if device == "cpu" else SECOND_LOOKS_GPU
    return usual if most is None else most


def looked_again(suspects: Sequence[Suspect], fresh: Sequence[Measurement]) -> list[Suspect]:
    """Those in doubt judged once more, all others as they were."""
    return [
        each.looked_at(fresh) if each.judgement.wants_second_look and fresh else each
        for each in suspects
    ]


def _judge(
    key: PairKey,
    baseline: Baseline,
    looks: Sequence[InvocationSummary],
    tolerance: float,
    cohort: Cohort,
) -> Judgement:
    if key.metric in SIZES:
        return judge_size(baseline.history, looks[0], looks[1:], tolerance=tolerance)
    return judge(baseline.history, looks[0], looks[1:], tolerance=tolerance, cohort=cohort)


class Gatekeeper:
    """The baselines of a run, read when they are first needed."""

    def __init__(self, root: Path, tests: Collection[str]) -> None:
        """``tests``: node ids of all that this session selects; they share one false-alarm rate."""
        self._root = root
        self._tests = {split_nodeid(each) for each in tests}
        self._baselines: dict[str, Mapping[tuple[str, PairKey], Baseline]] = {}
        self._cohorts: dict[str, Mapping[str, Cohort]] = {}

    def look(
        self,
        nodeid: str,
        measurement: Measurement,
        fingerprint: str,
        tolerance: float | None,
        guard: tuple[str, ...] = (),
    ) -> list[Suspect]:
        """Every pair of a measurement after its first look. Raises BaselineError.

        ``tolerance``: the test's own; None: it has none, and is gated where there is a baseline.
        ``guard``: what changed about the machine since it was named.
        """
        module, test = split_nodeid(nodeid)
        known = self._read(fingerprint)
        others = {
            (key.measure, key.metric): key.config
            for (of, key), each in known.items()
            if (of, key.test) == (module, test) and each.epochs
        }
        learned = self._cohorts[fingerprint]
        found = []
        for metric in [] if measurement.invalid else gated_metrics(measurement):
            key = key_of(test, measurement, metric)
            baseline = known.get((module, key), Baseline(key))
            first = summarize(measurement, metric, baseline)
            first = msgspec.structs.replace(first, guard=(*guard, *first.guard))
            tolerated = TOLERANCE if tolerance is None else tolerance
            cohort = learned.get(metric, Cohort())
            judgement = _judge(key, baseline, (first,), tolerated, cohort)
            other = others.get((key.measure, key.metric))
            if other is not None and not baseline.epochs:
                judgement = msgspec.structs.replace(judgement, reasons=(_moved(other, key),))
            found.append(
                Suspect(
                    module=module,
                    key=key,
                    fingerprint=fingerprint,
                    baseline=baseline,
                    tolerance=tolerated,
                    cohort=cohort,
                    looks=(first,),
                    judgement=judgement,
                    is_gated=tolerance is not None or other is not None,
                )
            )
        return found

    def suite(self, pairs: Sequence[PairResult]) -> list[SuiteShift]:
        """All pairs of the session together, those of each fingerprint by themselves.

        Raises BaselineError.
        """
        found = []
        for fingerprint in sorted({pair.fingerprint for pair in pairs}):
            known = self._read(fingerprint)
            dated = [
                ([(each.session, each) for each in known[pair.module, pair.key].sessions], pair)
                for pair in pairs
                if pair.fingerprint == fingerprint
                and pair.key.metric in SPEEDS
                and (pair.module, pair.key) in known
            ]
            shift = suite_shift([(history, pair.looks[0]) for history, pair in dated])
            found.append(msgspec.structs.replace(shift, fingerprint=fingerprint))
        return found

    def orphans(
        self, collected: Mapping[str, Collection[str]], fingerprints: Collection[str]
    ) -> list[str]:
        """Tests that have a baseline and are gone, as node ids. Raises BaselineError.

        ``collected``: of each module that was collected whole, its tests. A module that was not
        collected says nothing about its tests.
        """
        gone = {
            f"{module}::{key.test}"
            for fingerprint in fingerprints
            for module, key in self._read(fingerprint)
            if module in collected and key.test not in collected[module]
        }
        return sorted(gone)

    def _read(self, fingerprint: str) -> Mapping[tuple[str, PairKey], Baseline]:
        if fingerprint not in self._baselines:
            store = BaselineStore(self._root, fingerprint)
            found = {
                (module, key): baseline
                for module in store.modules()
                for key, baseline in store.read(module).pairs.items()
            }
            gated = [
                each
                for (module, key), each in found.items()
                if (module, key.test) in self._tests
                and key.metric in SPEEDS
                and counted(each.history) >= LEAST_SESSIONS
            ]
            self._cohorts[fingerprint] = cohorts(found.values(), max(1, len(gated)))
            self._baselines[fingerprint] = found
        return self._baselines[fingerprint]
