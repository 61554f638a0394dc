"""What did one invocation see? The facts that everything after it judges, shows and keeps."""

from __future__ import annotations

import msgspec

from pytest_llmperf.backends import EngineFacts
from pytest_llmperf.fit.before_load import Expectation
from pytest_llmperf.hardware.calibration import Calibration
from pytest_llmperf.measure.conditions import Conditions
from pytest_llmperf.measure.device_memory import DeviceMemory
from pytest_llmperf.measure.engine_clock import ClockComparison
from pytest_llmperf.measure.gpu_conditions import GpuConditions
from pytest_llmperf.measure.memory import MemoryUse
from pytest_llmperf.measure.quality import Quality
from pytest_llmperf.measure.quantity import Quantity
from pytest_llmperf.measure.roofline import Roofline
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.models import ModelFiles, ModelSpec
from pytest_llmperf.worker.loading import LoadFacts, title_of


class MetricAbsent(AttributeError):
    """A metric was asked for that this measurement does not have; the message says which it has."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation: a loaded model, a workload, samples, and what was seen beside the clock."""

    name: str
    spec: ModelSpec
    files: ModelFiles | None
    backend: str
    version: str
    """Version of the engine."""
    engine: EngineFacts
    workload: Workload
    requested: dict[str, str] = {}
    """Options of the engine that were asked for and are not its usual ones."""
    probe: Calibration | None = None
    """The latest probe of what computes, from before the load; None: not probed."""
    probe_after: Calibration | None = None
    """Of a CPU, one more right after the samples."""
    invocation: int
    warmup_samples: int
    steady: bool
    """Whether warm-up ended because two consecutive medians agreed within 2 %."""
    answer: list[int] = []
    """Token ids that the first request of all brought, of a batch step by step; −1: not named. The
    warm-up begins with it, so that it is the same prompt however long that takes."""
    metrics: dict[str, Quantity]
    """By the names of docs/metrics.md. What was not measured is absent."""
    absent: dict[str, str]
    """Why a metric is absent, where there is more to say than that it was not measured."""
    load_facts: LoadFacts
    memory: MemoryUse | None
    """None: not watched, or the system does not tell; ``absent`` says which."""
    expected: Expectation | None = None
    """What the load was expected to take; None: that is not known of this engine or model."""
    devices: list[DeviceMemory]
    """What was taken of each GPU."""
    conditions: Conditions | None
    """What disturbed the samples; None: not watched."""
    gpu_conditions: list[GpuConditions]
    roofline: Roofline | None
    """How near the machine's own limits the samples came; None: nothing to compare with."""
    quality: Quality | None = None
    """What a text told of the output; None: it was not asked to read one."""
    clocks: list[ClockComparison]
    """The engine's own times beside ours, where it keeps any."""
    findings: list[str]
    """What the reader should know before believing the numbers."""
    invalid: str | None = None
    """Why the numbers mean nothing, when they do not."""
    wall_s: float = 0.0
    """What the whole measurement took on the wall clock, the load left out."""

    @property
    def title(self) -> str:
        """What was loaded, in words; of a reference, :attr:`Quality.reference` is the same text."""
        return title_of(self.backend, self.spec, self.files, self.requested)

    @property
    def probes(self) -> list[Calibration]:
        """Those there are, in order."""
        return [each for each in (self.probe, self.probe_after) if each is not None]

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
    def chunk_tokens(self) -> Quantity:
        """Tokens that arrived together, after the first arrival."""
        return self.quantity("chunk_tokens")

    @property
    def queue_tps(self) -> Quantity:
        """Tokens of a whole queue per second, prompts and waiting included."""
        return self.quantity("queue_tps")

    @property
    def step_tokens(self) -> Quantity:
        """Tokens that a step brought to the requests of a queue."""
        return self.quantity("step_tokens")

    @property
    def load(self) -> Quantity:
        """Load request to ready, in s."""
        return self.quantity("load")

    @property
    def ram(self) -> Quantity:
        """Peak resident memory of the worker, in GiB."""
        return self.quantity("ram")

    @property
    def ram_anon(self) -> Quantity:
        """The private part of the worker's memory when the measurement ended, in GiB."""
        return self.quantity("ram_anon")

    @property
    def vram(self) -> Quantity:
        """What must fit on the fullest GPU, in GiB."""
        return self.quantity("vram")

    @property
    def mbu(self) -> Quantity:
        """Share of the memory bandwidth measured in this run."""
        return self.quantity("mbu")

    @property
    def mfu(self) -> Quantity:
        """Share of the arithmetic measured in this run."""
        return self.quantity("mfu")

    @property
    def perplexity(self) -> Quantity:
        """Over a text, exp of the mean surprise."""
        return self.quantity("perplexity")

    @property
    def kl_divergence(self) -> Quantity:
        """From the reference, mean over the positions of a text, in nats."""
        return self.quantity("kl_divergence")

    @property
    def top1_agreement(self) -> Quantity:
        """Share of the positions of a text where the likeliest token is the reference's."""
        return self.quantity("top1_agreement")

    def slowed_share(self, *causes: str) -> float | None:
        """The largest share of the time for which one of ``causes`` slowed what computed.

        ``thermal``, ``power``, ``board`` and ``reliability`` of the worker's GPUs; ``thermal`` also
        of the CPU. None: not told.
        """
        shares = [
            gpu.slowdown[cause]
            for gpu in self.gpu_conditions
            for cause in causes
            if gpu.is_ours and cause in gpu.slowdown
        ]
        of_cpu = None if self.conditions is None else self.conditions.thermal_share
        if of_cpu is not None and "thermal" in causes:
            shares.append(of_cpu)
        return max(shares, default=None)

    def quantity(self, metric: str) -> Quantity:
        """The quantity of a metric. Raises MetricAbsent."""
        if metric not in self.metrics:
            reason = self.invalid or self.absent.get(metric)
            why = f": {reason}" if reason else ""
            raise MetricAbsent(
                f"{metric} was not measured{why}; this measurement has "
                f"{', '.join(sorted(self.metrics)) or 'no metrics'}"
            )
        return self.metrics[metric]
