"""What does the gate know of one invocation, and of one session? The facts that statistics take."""

from __future__ import annotations

import msgspec

MOST_LOG = 100.0
"""e¹⁰⁰ is no speed, and no size."""


class InvocationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one fresh worker, on a log scale on which larger is better."""

    log_value: float
    """Median of the logs of the samples; with the sign turned where lower is better."""
    spread: float
    """Standard deviation of the logs of the samples, estimated from their quartiles."""
    n: int
    """Number of samples."""
    log_probe: float | None = None
    """Log of the median bandwidth of the probe beside it, in bytes/s; None: not probed."""
    probe_cv: float | None = None
    """Standard error of the probe's median, as a share of it; None: not probed."""
    log_core: float | None = None
    """Log of the speed at which cores ran plain code between the samples, in KiB/s; None: not
    tried."""
    unusual: bool = False
    """Whether its machine was slower or faster than on most days, as it had been before: that is
    no obstacle to a verdict, and no measure of what is usual."""
    guard: tuple[str, ...] = ()
    """What changed about the machine, one sentence each: nothing is judged then."""


class SessionSummary(InvocationSummary, frozen=True, kw_only=True):
    """The same of one session: what a baseline keeps. The mean over its invocations."""

    epoch: int = 0
    """Counts the acceptances of a new normal; the centre is learned anew in each."""
    machine: int = 0
    """Counts the acceptances of another machine."""
    seeded: bool = False
    """Made in one go with others, so that it holds no difference between sessions."""
