"""One run: what do all its tests share?"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.gate.gatekeeper import Gatekeeper
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.gpu_lease import GpuLeases
from pytest_llmperf.loader import Loader
from pytest_llmperf.measure import Instruments
from pytest_llmperf.options import Settings
from pytest_llmperf.report import words
from pytest_llmperf.report.progress import Progress
from pytest_llmperf.worker.pool import WorkerPool


@dataclass
class Session:
    """One pytest process that measures."""

    settings: Settings
    folder: Path
    """Takes the logs of the workers of this run."""
    progress: Progress
    hardware: Hardware

    def __post_init__(self) -> None:
        self.instruments = Instruments(self.hardware)
        gpus = GpuLeases.of(self.hardware.gpus, os.environ)
        self.pool = WorkerPool(self.folder, self.instruments, gpus)
        self.loader = Loader(
            self.settings, self.hardware, self.pool, self.instruments, self.progress
        )
        self.gatekeeper = Gatekeeper(self.settings.baselines, ())

    def close(self) -> None:
        """End every worker, and what watches them."""
        try:
            self.pool.close()
        finally:
            self.instruments.close()
        self.progress.clear()

    def select(self, tests: Collection[str]) -> None:
        """The node ids of all tests of this run are known."""
        self.gatekeeper = Gatekeeper(self.settings.baselines, tests)


def start_line(tests: int, settings: Settings) -> str:
    """What is going to happen, and how long it takes when every test keeps its time budget."""
    if not tests:
        return "llmperf: no test to measure"
    minutes = tests * settings.time_budget_s / 60
    return (
        f"llmperf: {words.count(tests, 'test')} to measure, "
        f"as a rule within {max(1, minutes):.0f} min plus loads"
    )
