"""What does the machine look like without a worker, before one starts and after it has ended?"""

from __future__ import annotations

from typing import Protocol

from pytest_llmperf.hardware.gpu_lease import Seat
from pytest_llmperf.hardware.gpu_watch import GpuSnapshot
from pytest_llmperf.worker.loading import Loading


class Surroundings(Protocol):
    """Whoever has to look at the machine while a worker is not there."""

    def before_start(
        self, loading: Loading, seat: Seat | None, *, alone: bool
    ) -> GpuSnapshot | None:
        """Look at the machine before a worker starts; what its GPUs show becomes ``idle``.

        ``seat``: the GPUs that it may use; None: it was not told. ``alone``: no other worker of
        this process is alive.
        """
        ...

    def after_end(self, idle: GpuSnapshot | None) -> str | None:
        """The last worker has ended: wait for its memory; the trouble, if it does not come back."""
        ...
