"""What do the sessions of a suite look like on a real machine? The noise that the gate has to bear.

    log value = machine × coupling + test's day + process + sample + drift
                + neighbour's share × what a test loses
    log probe = machine + probe's own noise
    log core  = neighbour's share × what a core loses + its own noise

Every part is random with a stated size; sizes were fixed before any verdict was counted. Samples
are drawn one by one, because rivals judge samples.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pytest_llmperf.gate import InvocationSummary, SessionSummary
from pytest_llmperf.gate.probe import MachineSpeed

Array = NDArray[np.float64]

TESTS, METRICS, SAMPLES = 50, 2, 10
SECOND_LOOKS = 5
QUARTILES_OF_NORMAL = 1.349
"""Distance of the quartiles in standard deviations."""
OUTLIER_SHARE = 0.03
OUTLIER = 0.10
"""Share of samples that something else delayed, and by how much on average."""


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """Standard deviations of the parts, as shares."""

    within: float = 0.02
    """Between the samples of a process."""
    process: float = 0.006
    """Between processes of a session."""
    shared: float = 0.008
    """Of the machine between sessions, the same for all tests."""
    single: float = 0.002
    """Between sessions, of each test by itself."""
    tails: float | None = None
    """Degrees of freedom of the process's effect where it has heavy tails."""
    drift: float = 0.0
    """The machine's walk from session to session."""
    jump: float = 0.0
    """What a test with two speeds loses in the sessions of its slower one, unseen by the probe."""
    jump_share: float = 0.1
    """Of sessions, in which it is the slower one."""
    neighbour: float = 0.0
    """What a test loses, as a log, while a neighbour shares its cores."""
    cores_tried: bool = True
    """Whether the cores' speed is known where a neighbour may share them."""
    coupling: float = 0.8
    """How much of the machine's effect the tests feel."""
    probe: float = 0.003
    """Of the probe's median."""
    probe_cv: float = 0.008
    """That its repeats show."""

    def scaled(self, factor: float) -> Noise:
        """The same with everything larger that blurs."""
        names = ("within", "process", "shared", "single", "drift", "probe")
        return msgspec.structs.replace(
            self, **{name: factor * getattr(self, name) for name in names}
        )


TYPICAL = Noise()
SINGLE = Noise(single=0.010)
"""Each test has days of its own: memory layout, files, a scheduler's mood."""
HEAVY = Noise(tails=3.0, drift=0.001)
NOISY = Noise(within=0.05, process=0.015, shared=0.015, single=0.005, probe=0.008, probe_cv=0.02)
"""A runner on a shared host: sessions differ by 2.8 %; its probe is too blurred to be used."""
VERY_NOISY = msgspec.structs.replace(NOISY, process=0.02, shared=0.02, single=0.010)
"""The same at 3.4 %: where the gate gives out."""
JUMPING = Noise(jump=0.10)
JUMPING_OFTEN = Noise(jump=0.10, jump_share=0.3)
"""Tests with two speeds, such as those of a host that moves its guests to and fro."""
NEIGHBOUR = Noise(neighbour=0.30)
"""A virtual machine beside a busy one, as seen on an AMD EPYC on 2026-11-21 (docs/metrics.md)."""
UNSEEN_NEIGHBOUR = msgspec.structs.replace(NEIGHBOUR, cores_tried=False)
NEIGHBOUR_DAYS = 0.4
"""Of sessions, in which he is there for some of the time, and not all of it for every process."""
CORE_LOSS, CORE_NOISE = 0.45, 0.01
"""What a core has lost beside him, as a log, and what its speed is off by."""
DAYS_OF_5 = Noise(single=0.05)
DAYS_OF_10 = Noise(single=0.10)
"""Each test has days as on a shared virtual machine's CPU, of which one go shows nothing."""
BAD_DAY = -0.06
"""What the machine loses on a bad day, all tests alike."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Samples and probes of some invocations: of each session, test and process."""

    samples: Array
    """[session, process, test, metric, sample] logs."""
    medians: Array
    spreads: Array
    """[session, process, test, metric] of the samples."""
    probes: Array
    """[session, process, test] logs."""
    cores: Array | None
    """[session, process, test] logs; None: not tried."""
    probe_cv: float
    walked: float
    """Where the machine's walk has got to: the next session starts there."""

    def history(self, test: int, metric: int, loss: float = 0.0) -> list[SessionSummary]:
        """Of one pair: of each session, by its first process, all of them slower by ``loss``."""
        change = math.log1p(-loss)
        past: list[SessionSummary] = []
        for session in range(len(self.samples)):
            seen = InvocationSummary(**self._summary((session, 0, test, metric), change))
            if self.cores is not None:  # elsewhere no habit is looked for, and marks change nothing
                seen = MachineSpeed(past).marked(seen)
            past.append(SessionSummary(**msgspec.structs.asdict(seen)))
        return past

    def seed(self, test: int, metric: int) -> list[SessionSummary]:
        """Of one pair: the first session's processes as a seed."""
        looks = self.summaries(0, test, metric)
        return [SessionSummary(**msgspec.structs.asdict(each), seeded=True) for each in looks]

    def summaries(
        self, session: int, test: int, metric: int, loss: float = 0.0
    ) -> list[InvocationSummary]:
        """Of one pair in one session: of each process, all of them slower by ``loss``."""
        change = math.log1p(-loss)
        return [
            InvocationSummary(**self._summary((session, process, test, metric), change))
            for process in range(self.samples.shape[1])
        ]

    def _summary(self, place: tuple[int, int, int, int], change: float = 0.0) -> dict[str, Any]:
        return {
            "log_value": self.medians.item(place) + change,
            "spread": self.spreads.item(place),
            "n": self.samples.shape[-1],
            "log_probe": self.probes.item(place[:3]),
            "probe_cv": self.probe_cv,
            "log_core": None if self.cores is None else self.cores.item(place[:3]),
        }


def draw(
    noise: Noise,
    sessions: int,
    processes: int,
    generator: np.random.Generator,
    *,
    machine: float = 0.0,
    tests: int = TESTS,
) -> Sessions:
    """``sessions`` of a suite, each test measured by ``processes``.

    ``machine``: where its walk starts, and what it loses on a bad day.
    """
    walk = machine + np.cumsum(generator.normal(0, noise.drift, sessions))
    machines = generator.normal(0, noise.shared, sessions) + walk
    days = generator.normal(0, noise.single, (sessions, 1, tests, METRICS, 1))
    shape = (sessions, processes, tests, METRICS, 1)
    if noise.tails is None:
        process = generator.normal(0, noise.process, shape)
    else:
        unit = np.sqrt(noise.tails / (noise.tails - 2))
        process = noise.process / unit * generator.standard_t(noise.tails, shape)
    samples = generator.normal(0, noise.within, (*shape[:-1], SAMPLES))
    slow = generator.random(samples.shape) < OUTLIER_SHARE
    samples -= slow * generator.exponential(OUTLIER, samples.shape)
    felt = (noise.coupling * machines)[:, None, None, None, None]
    samples += process + days + felt
    if noise.jump:
        slower = generator.random((sessions, 1, tests, 1, 1)) < noise.jump_share
        samples += slower * math.log1p(-noise.jump)
    cores = None
    if noise.neighbour:
        share = _shared(generator, sessions, processes, tests)
        samples -= noise.neighbour * share[..., None, None]
        if noise.cores_tried:
            cores = generator.normal(0, CORE_NOISE, share.shape) - CORE_LOSS * share
    blur = generator.normal(0, noise.probe, (sessions, processes, tests))
    low, medians, high = np.quantile(samples, (0.25, 0.5, 0.75), axis=-1)
    return Sessions(
        samples=samples,
        medians=medians,
        spreads=(high - low) / QUARTILES_OF_NORMAL,
        probes=machines[:, None, None] + blur,
        cores=cores,
        probe_cv=noise.probe_cv,
        walked=float(walk[-1]) if sessions else machine,
    )


def _shared(
    generator: np.random.Generator, sessions: int, processes: int, tests: int
) -> NDArray[np.float64]:
    """[session, process, test] share of the time that a neighbour was there."""
    is_there = generator.random((sessions, 1, 1)) < NEIGHBOUR_DAYS
    level = is_there * generator.random((sessions, 1, 1))
    apart = is_there * generator.normal(0, 0.2, (sessions, processes, tests))
    return np.clip(level + apart, 0.0, 1.0)
