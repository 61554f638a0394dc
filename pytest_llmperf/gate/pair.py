"""Which numbers of a measurement are compared with earlier sessions, and in what form?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import msgspec

from pytest_llmperf.gate.baseline import Baseline, PairKey
from pytest_llmperf.gate.machine import (
    QUARTILES_OF_NORMAL,
    changes,
    conditions_of,
    core_of,
    probe_of,
)
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.past import current
from pytest_llmperf.gate.probe import MachineSpeed
from pytest_llmperf.gate.summary import InvocationSummary
from pytest_llmperf.gate.verdict import Judgement, Verdict, is_clear
from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.quantity import percentile
from pytest_llmperf.measure.workload import RANDOM

SPEEDS = ("decode_tps", "prefill_tps", "ttft", "queue_tps")
"""``ttft`` of servers only: of all others it says what ``prefill_tps`` does."""
SIZES = ("ram", "vram")
"""Compared where they are exact: the ends of a bound may move while the truth does not."""
_COMMIT = 12
"""Characters that tell one commit from the others."""


class Earlier(msgspec.Struct, frozen=True, array_like=True):
    """One session that a baseline keeps, for whoever draws them. An array in the file: short."""

    date: str
    """UTC, ``2026-11-20T12:00``."""
    value: float
    """In the metric's unit."""
    epoch: int
    """Counts the acceptances of a new normal before it."""
    commit: str | None = None
    """Its first characters."""


class PairResult(msgspec.Struct, frozen=True, kw_only=True):
    """One pair in one session: what became of it, and what a baseline keeps of it."""

    module: str
    key: PairKey
    fingerprint: str
    is_gated: bool
    """Whether its verdict counts: it has a baseline, or its test demands one."""
    verdict: Verdict
    tolerance: float
    """Share that was tolerated."""
    judgement: Judgement
    normal: float | None
    """Centre of the baseline in the metric's unit; None: none."""
    since: str | None
    """Date of its latest session."""
    value: float
    """This session's, in the metric's unit."""
    looks: list[InvocationSummary]
    """Of each invocation, the first look's first."""
    conditions: dict[str, float]
    software: dict[str, str]
    seed_runs: int = 0
    """Runs of the one go that the baseline still leans on; 0: on sessions of their own days."""
    earlier: list[Earlier] = []
    """What its baseline keeps, oldest first."""

    @property
    def change(self) -> float | None:
        """Of the value against its normal, as a share: RAM that grew is above zero."""
        return None if not self.normal else self.value / self.normal - 1

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the interval of 95 % around :attr:`change`, the lower first; shares of a value.

        None: nothing was compared, or so unsure that an end is beyond every number.
        """
        ends = [self._in_value(each) for each in (self.judgement.low, self.judgement.high)]
        known = sorted(each for each in ends if each is not None)
        return (known[0], known[1]) if len(known) == len(ends) else None

    @property
    def least_found(self) -> float | None:
        """The smallest loss found four times in five, as a change: of a time it is above zero."""
        mde = self.judgement.mde
        return self._in_value(None if mde is None else -mde)

    def _in_value(self, share: float | None) -> float | None:
        return None if share is None else in_value(self.key.metric, share)

    @property
    def confirmed(self) -> list[float]:
        """What each fresh process measured that the judge heard, in the metric's unit."""
        sign = 1.0 if BY_NAME[self.key.metric].better == "higher" else -1.0
        is_size = self.key.metric in SIZES
        heard = [look for look in self.looks[1:] if is_size or is_clear(look)]
        return [math.exp(sign * look.log_value) for look in heard]


def in_value(metric: str, share: float) -> float | None:
    """The judge's share, of which less is worse, as one of the metric's own value.

    Half as fast is twice as long. None: nothing is left, and no time is as long as that.
    """
    if BY_NAME[metric].better == "higher":
        return share
    return None if share <= -1 else 1 / (1 + share) - 1


def gated_metrics(measurement: Measurement) -> list[str]:
    """The metrics of a measurement that can be compared with its earlier ones."""
    seen = measurement.metrics
    of_server = measurement.engine.server is not None
    speeds = [each for each in SPEEDS if each in seen and (of_server or each != "ttft")]
    return speeds + [each for each in SIZES if each in seen and seen[each].kind == "exact"]


def split_nodeid(nodeid: str) -> tuple[str, str]:
    """Module and test of a pytest node id."""
    module, _, test = nodeid.partition("::")
    return module, test


def key_of(test: str, measurement: Measurement, metric: str) -> PairKey:
    """The pair's name: engine, model, options that were asked for and workload, never versions."""
    asked = measurement.workload
    parts = [measurement.backend, measurement.spec.source]
    if measurement.spec.quantization is not None:
        parts.append(measurement.spec.quantization)
    parts.append(f"{asked.prompt_tokens}+{asked.new}")
    parts += [f"{name}={value}" for name, value in _beside(measurement).items()]
    return PairKey(test, measurement.name, metric, " ".join(parts))


def _beside(measurement: Measurement) -> dict[str, object]:
    """What is not as it usually is."""
    asked = measurement.workload
    beside: dict[str, object] = {}
    if asked.batch != 1:
        beside["batch"] = asked.batch
    if asked.depth:
        beside["depth"] = asked.depth
    if asked.seed:
        beside["seed"] = asked.seed
    if asked.prompts != RANDOM:
        beside["prompts"] = Path(asked.prompts).name
    return beside | dict(sorted(measurement.requested.items()))


def seed_runs(baseline: Baseline) -> int:
    """How many runs of one go a baseline leans on; sessions enough of its own replace them."""
    return sum(each.seeded for each in current(baseline.sessions))


def earlier_of(baseline: Baseline) -> list[Earlier]:
    """The sessions of a baseline, oldest first."""
    return [
        Earlier(
            date=f"{each.date.astimezone(UTC):%Y-%m-%dT%H:%M}",
            value=each.value,
            epoch=each.epoch,
            commit=each.commit and each.commit[:_COMMIT],
        )
        for each in baseline.sessions
    ]


def summarize(measurement: Measurement, metric: str, baseline: Baseline) -> InvocationSummary:
    """One invocation of a pair as the judge takes it, with what was unlike its history."""
    quantity = measurement.metrics[metric]
    sign = 1.0 if BY_NAME[metric].better == "higher" else -1.0
    logs = sorted(math.log(value) for value in quantity.values or [quantity.median])
    log_probe, probe_cv = probe_of(measurement)
    calm = [each for each in baseline.sessions if not each.guard]
    epoch, machine = baseline.next_epoch - 1, baseline.machine
    look = InvocationSummary(
        log_value=sign * statistics.median(logs),
        spread=(percentile(logs, 75) - percentile(logs, 25)) / QUARTILES_OF_NORMAL,
        n=len(logs),
        log_probe=log_probe,
        probe_cv=probe_cv,
        log_core=core_of(measurement),
        guard=changes(
            conditions_of(measurement),
            [each.conditions for each in calm if each.epoch == epoch],
            [each.conditions for each in calm if each.machine == machine],
        ),
    )
    return MachineSpeed(baseline.history).marked(look)


def mean(looks: Sequence[InvocationSummary]) -> InvocationSummary:
    """What a session records of its invocations: those that the judge heard, as it heard them."""
    first, *others = looks
    heard = [first, *(look for look in others if is_clear(look))]
    probes = [look.log_probe for look in heard if look.log_probe is not None]
    spreads = [look.probe_cv for look in heard if look.probe_cv is not None]
    cores = [look.log_core for look in heard if look.log_core is not None]
    return InvocationSummary(
        log_value=statistics.fmean(look.log_value for look in heard),
        spread=statistics.median(look.spread for look in heard),
        n=sum(look.n for look in heard),
        log_probe=statistics.median(probes) if probes else None,
        probe_cv=statistics.median(spreads) if spreads else None,
        log_core=statistics.fmean(cores) if cores else None,
        unusual=any(look.unusual for look in heard),
        guard=first.guard,
    )
