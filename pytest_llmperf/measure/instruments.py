"""What does a run measure with, beside the clock?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pytest_llmperf.fit.before_load import (
    Expectation,
    Rejected,
    can_be_asked,
    expect,
    require_fit,
    room_now,
)
from pytest_llmperf.hardware.calibration import Calibration, calibrate_cpu, calibrate_cuda
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.gpu_lease import Seat
from pytest_llmperf.hardware.gpu_watch import GpuSnapshot, GpuWatch
from pytest_llmperf.hardware.memory import from_linux
from pytest_llmperf.hardware.visible import VARIABLE
from pytest_llmperf.measure import roofline
from pytest_llmperf.measure.gpu_neighbours import wait_until_given_back
from pytest_llmperf.measure.roofline import Roofline
from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.models.traffic import traffic_of
from pytest_llmperf.worker.loading import Loading
from pytest_llmperf.worker.pool import LoadedModel
from pytest_llmperf.worker.surroundings import Surroundings

_GPU_TRIES = 2
"""A probe that failed for a busy card is tried again with the next model; one that hangs takes a
minute each time."""
_NOT_PROBED = "the memory bandwidth was not probed: another model was loaded all the time"


class Instruments(Surroundings):
    """The roofline's probes and the watch over the GPUs, as far as this machine has them."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._cpu: list[Calibration] = []
        self._no_cpu = _NOT_PROBED
        self._owes_cpu = False
        """Whether it was not probed because a GPU was expected to compute."""
        self._gpus: list[Calibration] = []
        """Of the GPUs that the latest worker sees, the latest last."""
        self._listed: str | None = None
        self._probed: dict[str | None, list[Calibration]] = {None: self._gpus}
        """By what a worker's CUDA_VISIBLE_DEVICES listed; None: as we have it."""
        self._no_gpu = ""
        self._gpu_tries = 0
        self._expected: dict[str, Expectation] = {}
        """What each load was expected to take, by the loading's key."""
        self.gpu: GpuWatch | None = None
        """None: this machine has no NVIDIA GPU."""

    @property
    def _has_cuda(self) -> bool:
        return any(each.kind == "cuda" for each in self._hardware.accelerators)

    def before_start(
        self, loading: Loading, seat: Seat | None, *, alone: bool
    ) -> GpuSnapshot | None:
        """Ask whether there is room; probe the machine if no model is loaded; read the GPUs.

        Where others may be timed on GPUs of their own, the CPU is probed only when it turns out
        that it computes. Raises DoesNotFit.
        """
        self._require_room(loading)
        self._sit_down(seat)
        if alone and loading.files is not None:
            self._owes_cpu = seat is not None and seat.leaves_the_cpu
            if not self._owes_cpu:
                self._calibrate_cpu()
            if self._has_cuda and not self._gpus and self._gpu_tries < _GPU_TRIES:
                self._calibrate_gpus()
        if self.gpu is None and self._has_cuda:
            self.gpu = GpuWatch.start()
        return self.read_gpus(seat)

    def _sit_down(self, seat: Seat | None) -> None:
        """Probes of other cards say nothing of these, and number them otherwise."""
        listed = None if seat is None else seat.listed
        if listed != self._listed:
            self._listed, self._gpu_tries = listed, 0
            self._gpus = self._probed.setdefault(listed, [])

    def read_gpus(self, seat: Seat | None) -> GpuSnapshot | None:
        """Those of a seat now; others are computed on by other processes. None: nothing is read."""
        snapshot = None if self.gpu is None else self.gpu.read()
        ours = None if seat is None else seat.uuids
        if snapshot is None or ours is None:
            return snapshot
        return msgspec.structs.replace(
            snapshot, gpus=tuple(each for each in snapshot.gpus if each.uuid in ours)
        )

    def _require_room(self, loading: Loading) -> None:
        if not can_be_asked(loading.python, self._hardware):
            return
        room = room_now(self._hardware)
        expected = expect(loading.spec, loading.files, loading.options, room)
        if expected is not None:
            require_fit(expected)
            before = self._expected.get(loading.key, expected)  # of the first of several workers
            self._expected[loading.key] = msgspec.structs.replace(
                expected, chosen=before.chosen, rejected=before.rejected
            )

    def chose(self, loading: Loading, what: str, rejected: Sequence[Rejected]) -> None:
        """Keep what was loaded under ``fit=True``, and what was not, for the result."""
        expected = self._expected.get(loading.key)
        if expected is not None:
            self._expected[loading.key] = msgspec.structs.replace(
                expected, chosen=what, rejected=tuple(rejected)
            )

    def expected(self, loading: Loading) -> Expectation | None:
        """What the latest load like this was expected to take; None: that is not known."""
        return self._expected.get(loading.key)

    def calibrate(self, device: str) -> None:
        """Probe once more what computes, ``device`` as the engine names it.

        Of all probes the best counts, so that a further one can only take an accusation back.
        """
        if device == "cpu":
            self._calibrate_cpu()
        elif self._has_cuda:
            self._calibrate_gpus()

    def _calibrate_cpu(self) -> None:
        memory = self._hardware.memory
        if self._hardware.os_family == "linux":
            memory, _ = from_linux(Path("/"))  # what was free when the run began is gone
        found = calibrate_cpu(self._hardware.cpu, memory)
        if isinstance(found, Calibration):
            self._cpu.append(found)
        else:
            self._no_cpu = found

    def _calibrate_gpus(self) -> None:
        self._gpu_tries += 1
        listed = {} if self._listed is None else {VARIABLE: self._listed}
        found = calibrate_cuda(environment={**os.environ, **listed})
        if isinstance(found, str):
            self._no_gpu = found
        else:
            self._gpus += found

    def after_end(self, idle: GpuSnapshot | None) -> str | None:
        """Wait until the GPUs have their memory back."""
        if self.gpu is None or idle is None:
            return None
        return wait_until_given_back(self.gpu, idle)

    def place(
        self,
        model: LoadedModel,
        workload: Workload,
        samples: Sequence[Sample],
        changed: str | None,
    ) -> Roofline | None:
        """Compare the samples with the machine's limits; None for an engine without a model.

        ``changed``: what happened to the model's files, which then tell nothing of what ran.
        """
        if model.files is None:
            return None
        calibrations, why = self._of_device(model.engine.device)
        traffic = f"the model file changed: {changed}" if changed else traffic_of(model.files)
        return roofline.place(
            traffic, model.engine, workload, samples, calibrations, uncalibrated=why
        )

    def probes_around(self, model: LoadedModel) -> tuple[Calibration | None, Calibration | None]:
        """Of what computes, the latest probe and one of now, when the samples have been taken.

        The engine stands still for it, because a probe must not depend on the code under test.
        GPUs are not probed again: it takes some ten times as long, and they hold the model.
        """
        if model.files is None:
            return None, None
        if model.engine.device == "cpu" and self._owes_cpu:
            self._owes_cpu = False
            with model.worker.still():
                self._calibrate_cpu()
        probes, _ = self._of_device(model.engine.device)
        before = probes[-1] if probes else None
        if before is None or model.engine.device != "cpu":
            return before, None
        known = len(self._cpu)
        with model.worker.still():
            self._calibrate_cpu()
        return before, self._cpu[-1] if len(self._cpu) > known else None

    def _of_device(self, device: str) -> tuple[Sequence[Calibration], str]:
        """The probes of the device that computes, or why there are none."""
        if device == "cpu":
            return self._cpu, self._no_cpu
        if not self._gpus:
            return [], self._no_gpu or f"the memory bandwidth of {device} cannot be probed here"
        if device == "gpu" and len(self._hardware.gpus) == 1:
            return self._gpus, ""
        name, _, number = device.partition(":")
        if name != "cuda":
            return [], f"the engine says no more than {device!r} of where it computes"
        found = [each for each in self._gpus if each.index == int(number or 0)]
        return found, f"{device} was not probed"

    def close(self) -> None:
        """End the processes that watch."""
        if self.gpu is not None:
            self.gpu.close()
            self.gpu = None
