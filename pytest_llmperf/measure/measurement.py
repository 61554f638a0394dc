"""What did one invocation see? The facts that everything after it judges, shows and keeps."""

from __future__ import annotations

import msgspec

from pytest_llmperf.backends import EngineFacts
from pytest_llmperf.measure.memory import MemoryPeak
from pytest_llmperf.measure.quantity import Quantity
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.models import ModelFiles, ModelSpec


class MetricAbsent(AttributeError):
    """A metric was asked for that this measurement does not have; the message says which it has."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation: a loaded model, a workload, samples, memory, and what was odd about it."""

    name: str
    spec: ModelSpec
    files: ModelFiles | None
    backend: str
    version: str
    """Version of the engine."""
    engine: EngineFacts
    workload: Workload
    invocation: int
    warmup_samples: int
    steady: bool
    """Whether warm-up ended because two consecutive medians agreed within 2 %."""
    metrics: dict[str, Quantity]
    """By the names of docs/metrics.md. What was not measured is absent."""
    memory: MemoryPeak | None
    findings: list[str]
    """What the reader should know before believing the numbers."""
    invalid: str | None = None
    """Why the numbers mean nothing, when they do not."""
    wall_s: float = 0.0
    """What the whole measurement took on the wall clock, the load left out."""

    @property
    def ttft(self) -> Quantity:
        """Time to first token in ms."""
        return self.quantity("ttft")

    @property
    def prefill_tps(self) -> Quantity:
        """Prompt tokens per second up to the first token."""
        return self.quantity("prefill_tps")

    @property
    def decode_tps(self) -> Quantity:
        """Generated tokens per second after the first."""
        return self.quantity("decode_tps")

    @property
    def itl(self) -> Quantity:
        """Gaps between consecutive tokens in ms, pooled over all samples."""
        return self.quantity("itl")

    @property
    def tpot(self) -> Quantity:
        """Time per output token after the first, in ms."""
        return self.quantity("tpot")

    @property
    def e2e(self) -> Quantity:
        """Request to last token, in ms."""
        return self.quantity("e2e")

    @property
    def load(self) -> Quantity:
        """Load request to ready, in s."""
        return self.quantity("load")

    @property
    def ram(self) -> Quantity:
        """Peak resident memory of the worker, in GiB."""
        return self.quantity("ram")

    def quantity(self, metric: str) -> Quantity:
        """The quantity of a metric. Raises MetricAbsent."""
        if metric not in self.metrics:
            why = f": {self.invalid}" if self.invalid else ""
            raise MetricAbsent(
                f"{metric} was not measured{why}; this measurement has "
                f"{', '.join(sorted(self.metrics)) or 'no metrics'}"
            )
        return self.metrics[metric]
