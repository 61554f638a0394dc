"""Which metrics are there, in which unit, and which direction is better?

The one table from which the keywords of ``@pytest.mark.perf``, their types and the labels of
every report are made. Definitions: docs/metrics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One named number."""

    name: str
    label: str
    """How a report calls it."""
    unit: str
    better: Literal["higher", "lower"]
    suffix: str = ""
    """Unit at the end of a budget keyword."""
    alias: str | None = None
    """Shorter name in a budget keyword."""
    tails: bool = False
    """Whether a percentile may carry a budget."""
    most: float | None = None
    """Largest value that can be meant; None: no bound."""
    of_output: bool = False
    """Told by a text, and the same in every process: nothing to look at twice."""

    @property
    def prefix(self) -> str:
        """``min`` or ``max``: a budget limits the harmful direction only."""
        return "min" if self.better == "higher" else "max"


METRICS = (
    Metric("decode_tps", "decode", "tok/s", "higher", alias="tps"),
    Metric("prefill_tps", "prefill", "tok/s", "higher"),
    Metric("ttft", "first token", "ms", "lower", "ms", tails=True),
    Metric("itl", "token gap", "ms", "lower", "ms", tails=True),
    Metric("icl", "chunk gap", "ms", "lower", "ms", tails=True),
    Metric("chunk_tokens", "tokens a chunk", "", "higher"),
    Metric("queue_tps", "queue", "tok/s", "higher"),
    Metric("step_tokens", "tokens a step", "", "higher"),
    Metric("tpot", "per token", "ms", "lower", "ms", tails=True),
    Metric("e2e", "request", "ms", "lower", "ms", tails=True),
    Metric("load", "load", "s", "lower", "s"),
    Metric("ram", "RAM", "GiB", "lower", "gb"),
    Metric("ram_anon", "private RAM", "GiB", "lower", "gb"),
    Metric("vram", "VRAM", "GiB", "lower", "gb"),
    Metric("vram_allocated", "VRAM allocated", "GiB", "lower", "gb"),
    Metric("vram_reserved", "VRAM reserved", "GiB", "lower", "gb"),
    Metric("mbu", "memory bandwidth used", "", "higher", most=1.1),
    Metric("mfu", "compute used", "", "higher"),
    Metric("kl_divergence", "KL divergence", "nats", "lower", of_output=True),
    Metric("perplexity", "perplexity", "", "lower", of_output=True),
    Metric("top1_agreement", "top-1 agreement", "", "higher", most=1.0, of_output=True),
)

TAIL_PERCENTILES = (50, 90, 95, 99)

BY_NAME = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True)
class LimitKeyword:
    """One keyword that ``perf`` takes, and what it limits."""

    keyword: str
    metric: Metric
    percentile: int | None


def limit_keywords() -> dict[str, LimitKeyword]:
    """Every budget keyword, generated from the table."""
    keywords: dict[str, LimitKeyword] = {}
    for metric in METRICS:
        tails: tuple[int | None, ...] = (None, *TAIL_PERCENTILES) if metric.tails else (None,)
        for name in (metric.name, metric.alias):
            if name is None:
                continue
            for percentile in tails:
                tail = f"p{percentile}" if percentile else ""
                parts = (metric.prefix, name, tail, metric.suffix)
                keyword = "_".join(part for part in parts if part)
                keywords[keyword] = LimitKeyword(keyword, metric, percentile)
    return keywords
