"""Does the engine's own clock agree with ours?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec

from pytest_llmperf.backends import EngineTimings
from pytest_llmperf.measure.timeline import Sample

AGREEMENT = 0.02
"""Both clocks agree when they differ by no more than this share of ours."""


class ClockComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One span by both clocks, in seconds: medians over the samples."""

    span: str
    """``prefill`` (t_0 to t_1), ``decode`` (t_1 to t_n) or ``request`` (both)."""
    ours_s: float
    engine_s: float

    @property
    def difference(self) -> float:
        """(engine − ours) / ours."""
        return (self.engine_s - self.ours_s) / self.ours_s

    @property
    def agrees(self) -> bool:
        """Whether they differ by at most 2 %."""
        return abs(self.difference) <= AGREEMENT


def compare_clocks(samples: Sequence[Sample]) -> list[ClockComparison]:
    """Compare every span that the engine timed in all samples; empty when it keeps no times."""
    spans: tuple[
        tuple[str, Callable[[Sample], float], Callable[[EngineTimings], float | None]], ...
    ] = (
        ("prefill", lambda sample: sample.ttft_s, lambda timings: timings.prefill_s),
        ("decode", lambda sample: sample.decode_s, lambda timings: timings.decode_s),
        ("request", lambda sample: sample.e2e_s, lambda timings: timings.total_s),
    )
    found = []
    for span, ours, theirs in spans:
        pairs = [
            (ours(sample), told)
            for sample in samples
            if sample.timings is not None
            if sample.queue is None or span == "request"
            for told in (theirs(sample.timings),)
            if told is not None
        ]
        if len(pairs) == len(samples) and pairs and all(mine > 0 for mine, _ in pairs):
            mine, told = (statistics.median(column) for column in zip(*pairs, strict=True))
            found.append(ClockComparison(span=span, ours_s=mine, engine_s=told))
    return found


def disagreements(comparisons: Sequence[ClockComparison], engine: str) -> list[str]:
    """What has to be said where the clocks differ by more than 2 %."""
    return [
        f"{engine}'s own clock says {each.engine_s * 1e3:.4g} ms for the {each.span}, "
        f"ours {each.ours_s * 1e3:.4g} ms ({each.difference:+.1%}): ours counts all until the "
        "token is in the caller's hands"
        for each in comparisons
        if not each.agrees
    ]
