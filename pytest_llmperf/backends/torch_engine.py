"""What do engines that compute with torch in the worker itself do alike with their device?"""

from __future__ import annotations

from typing import Any

from pytest_llmperf.backends.device import AllocatorPeak, reset_torch_peaks, torch_device_peaks
from pytest_llmperf.backends.protocol import Engine


class TorchEngine(Engine):
    """Base of those that hold one model; they set what is declared here."""

    _torch: Any
    """The module, which only they import."""
    _device: Any
    """A torch.device: where inputs belong."""
    _model: Any

    def _settle(self) -> None:
        """Wait until the device has done everything that was asked before."""
        if self._device.type in ("cuda", "mps"):
            getattr(self._torch, self._device.type).synchronize()

    def device_peaks(self) -> list[AllocatorPeak]:
        """Peaks of torch's allocator on each GPU."""
        return torch_device_peaks(self._torch)

    def reset_device_peaks(self) -> None:
        """Start new peaks of torch's allocator."""
        reset_torch_peaks(self._torch)

    def close(self) -> None:
        """Drop the model, and with it its memory."""
        del self._model
