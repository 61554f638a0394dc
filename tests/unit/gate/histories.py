"""What does a pair's past look like? Makers of it, in numbers that can be checked by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec

from pytest_llmperf.gate import Cohort, InvocationSummary, Judgement, SessionSummary, judge

CENTRE = 3.0
"""Log of about 20 tokens/s: what every pair here usually does."""
PROBE = 24.0
"""Log of about 26 GB/s: what the probe usually says."""
CORES = 14.0
"""Log of about 1.2 million KiB/s: what a core usually does of plain code."""
SHARP = 0.005
"""A probe's own coefficient of variation that is good enough to be used."""
RAMP = (-0.02, -0.01, 0.0, 0.01, 0.02)
"""Five probes around PROBE; their squares sum to 0.001."""

QUIET = Cohort(noise=0.005)
"""What the other pairs teach where sessions hardly differ; then the tolerance decides."""


def lower(share: float) -> float:
    """By how much a log falls when its value loses this share."""
    return math.log1p(-share)


def invocation(
    offset: float = 0.0, probe: float | None = None, *, probe_cv: float | None = SHARP, **facts: Any
) -> InvocationSummary:
    """One worker's value and probe, as distances from CENTRE and PROBE."""
    known: dict[str, Any] = {"spread": 0.01, "n": 10} | facts
    if probe is not None:
        known |= {"log_probe": PROBE + probe, "probe_cv": probe_cv}
    return InvocationSummary(log_value=CENTRE + offset, **known)


def session(
    offset: float = 0.0, probe: float | None = None, *, probe_cv: float | None = SHARP, **facts: Any
) -> SessionSummary:
    """The same of one session."""
    known: dict[str, Any] = {"spread": 0.01, "n": 10} | facts
    if probe is not None:
        known |= {"log_probe": PROBE + probe, "probe_cv": probe_cv}
    return SessionSummary(log_value=CENTRE + offset, **known)


def history(
    offsets: Sequence[float], probes: Sequence[float] | None = None, **facts: Any
) -> list[SessionSummary]:
    """Sessions, oldest first; ``facts`` hold for all of them."""
    if probes is None:
        return [session(offset, **facts) for offset in offsets]
    return [session(*both, **facts) for both in zip(offsets, probes, strict=True)]


def level(sessions: int, **facts: Any) -> list[SessionSummary]:
    """A past in which nothing ever differed."""
    return history([0.0] * sessions, **facts)


def swinging(sessions: int, size: float, **facts: Any) -> list[SessionSummary]:
    """Above and below CENTRE in turn: for an even number the median is CENTRE, and the sum of
    squares is ``sessions`` × ``size``².
    """
    return history([size if each % 2 else -size for each in range(sessions)], **facts)


def noisy(sessions: int, sigma: float, seed: int, **facts: Any) -> list[SessionSummary]:
    """Normal noise."""
    draw = random.Random(seed)
    return history([draw.gauss(0.0, sigma) for _ in range(sessions)], **facts)


def coupled(
    sessions: int, seed: int, *, coupling: float = 0.8, **facts: Any
) -> list[SessionSummary]:
    """A machine whose speed differs by 2 % from session to session, and a value that follows."""
    draw = random.Random(seed)
    machine = [draw.gauss(0.0, 0.02) for _ in range(sessions)]
    values = [coupling * each + draw.gauss(0.0, 0.003) for each in machine]
    return history(values, machine, **facts)


def changed(past: Sequence[SessionSummary], at: int, **facts: Any) -> list[SessionSummary]:
    """The same past, but for one session."""
    return [*past[:at], msgspec.structs.replace(past[at], **facts), *past[at + 1 :]]


def jumping(sessions: int, depth: float, *at: int, **facts: Any) -> list[SessionSummary]:
    """A past without noise, but for the sessions ``at`` which a loss of ``depth`` was there."""
    return history([-depth if each in at else 0.0 for each in range(sessions)], **facts)


def looked_twice(
    past: Sequence[SessionSummary], offset: float, probe: float | None = None, **options: Any
) -> Judgement:
    """What is said when five fresh workers see exactly what the first one saw."""
    look = invocation(offset, probe)
    return judge(past, look, [look] * 5, **options)


def a_past(draw: random.Random) -> list[SessionSummary]:
    """Any: young or old, quiet or wild, probed or not, seeded, accepted anew."""
    sigma = draw.choice([0.0, 0.003, 0.02, 0.3, 3.0])
    probed, epochs = draw.random() < 0.7, draw.choice([1, 1, 2, 5])
    jump, jumps = draw.choice([0.0, 0.0, 0.15]), draw.choice([0.1, 0.3])
    tried, coupling = draw.random() < 0.5, draw.choice([0.0, 0.7])
    past = []
    for each in range(draw.randrange(45)):
        machine = draw.gauss(0.0, draw.choice([0.0, 0.02]))
        cores = -0.45 * draw.random() * (draw.random() < 0.5)
        past.append(
            session(
                draw.gauss(0.8 * machine + coupling * tried * cores, sigma)
                - jump * (draw.random() < jumps),
                machine if probed and draw.random() < 0.98 else None,
                probe_cv=draw.choice([None, 0.004, 0.5]) if draw.random() < 0.1 else 0.004,
                log_core=CORES + cores if tried and draw.random() < 0.98 else None,
                unusual=draw.random() < 0.1,
                guard=("neighbours",) if draw.random() < 0.1 else (),
                epoch=each * epochs // 45,
                seeded=each < 5 and sigma == 0.003,
            )
        )
    return past


def some_looks(draw: random.Random) -> list[InvocationSummary]:
    """One, or the first and those of a second look; good and bad, some disturbed."""
    size = draw.choice([0.0, 0.03, 0.3])
    loss, apart = draw.gauss(-size, size), draw.choice([0.002, 0.01, size])
    cores = draw.choice([None, CORES, CORES - 0.3, CORES + 0.1])
    return [
        invocation(
            draw.gauss(loss, apart) * (1.0 if draw.random() > 0.05 else 0.3),
            draw.choice([None, 0.0, -0.03, -0.7]) if draw.random() < 0.05 else 0.0,
            n=draw.choice([5, 10, 1]) if draw.random() < 0.05 else 10,
            log_core=cores,
            guard=("throttled",) if draw.random() < 0.05 else (),
        )
        for _ in range(draw.choice([1, 4, 6]))
    ]
