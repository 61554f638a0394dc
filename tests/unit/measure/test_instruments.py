"""Is what computes probed, again when accused, and no more often than can be borne?"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from pytest_llmperf.backends import EngineFacts, find_backend
from pytest_llmperf.hardware.calibration import Calibration
from pytest_llmperf.hardware.facts import Accelerator, Hardware
from pytest_llmperf.hardware.gpu_watch import GpuWatch
from pytest_llmperf.measure import instruments
from pytest_llmperf.measure.instruments import Instruments
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.loading import Loading
from pytest_llmperf.worker.pool import LoadedModel
from tests.unit.measure.test_roofline import PROBE
from tests.unit.report.test_result import laptop
from tests.unit.worker.test_messages import FILES

CARD = msgspec.structs.replace(PROBE, device="GPU-1", index=0, threads=None)


class Probes:
    """Notes which probes are made, and answers as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.cpu: Calibration | str = PROBE
        self.gpus: tuple[Calibration, ...] | str = (CARD,)
        monkeypatch.setattr(instruments, "calibrate_cpu", self._cpu)
        monkeypatch.setattr(instruments, "calibrate_cuda", self._cuda)
        monkeypatch.setattr(GpuWatch, "start", GpuWatch)

    def _cpu(self, *_: object) -> Calibration | str:
        self.made.append("cpu")
        return self.cpu

    def _cuda(self) -> tuple[Calibration, ...] | str:
        self.made.append("gpu")
        return self.gpus


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Probes:
    return Probes(monkeypatch)


@pytest.fixture
def card(tmp_path: Path) -> Hardware:
    """A laptop with one GPU more."""
    gpu = Accelerator(
        kind="cuda", vendor="nvidia", name="RTX 4060 Ti", integrated=False, memory_bytes=16 << 30
    )
    return msgspec.structs.replace(laptop(tmp_path), accelerators=(gpu,))


def loading(path: Path) -> Loading:
    backend = find_backend("fake")
    return Loading(
        spec=ModelSpec(str(path)),
        files=msgspec.structs.replace(FILES, path=str(path)),
        backend=backend,
        options=backend.options_type(),
        timeout_s=60,
    )


def test_the_accused_device_is_probed_again(card: Hardware, probes: Probes) -> None:
    machine = Instruments(card)
    machine.calibrate("cuda:0")
    machine.calibrate("gpu")
    machine.calibrate("cpu")
    assert probes.made == ["gpu", "gpu", "cpu"]


def loaded(path: Path, device: str) -> LoadedModel:
    """All that a probe asks of a model."""
    worker = SimpleNamespace(still=nullcontext)
    engine = EngineFacts(device=device, vocab_size=1, context_tokens=1, options={})
    return cast(
        "LoadedModel", SimpleNamespace(files=loading(path).files, engine=engine, worker=worker)
    )


def test_a_cpu_is_probed_before_and_after_the_samples(
    card: Hardware, probes: Probes, tmp_path: Path
) -> None:
    machine = Instruments(card)
    model = loaded(tmp_path / "model.gguf", "cpu")
    assert machine.probes_around(model) == (None, None)
    machine.before_start(loading(tmp_path / "model.gguf"), alone=True)
    probes.made.clear()
    assert machine.probes_around(model) == (PROBE, PROBE)
    assert probes.made == ["cpu"]
    probes.cpu = "the memory bandwidth is not known: the probe was killed"
    assert machine.probes_around(model) == (PROBE, None)


def test_a_gpu_is_not_probed_while_it_holds_a_model(
    card: Hardware, probes: Probes, tmp_path: Path
) -> None:
    machine = Instruments(card)
    machine.before_start(loading(tmp_path / "model.gguf"), alone=True)
    probes.made.clear()
    assert machine.probes_around(loaded(tmp_path / "model.gguf", "cuda:0")) == (CARD, None)
    assert probes.made == []


def test_without_a_gpu_none_is_probed(tmp_path: Path, probes: Probes) -> None:
    Instruments(laptop(tmp_path)).calibrate("cuda:0")
    assert probes.made == []


def test_gpus_are_probed_before_the_first_model_only(
    card: Hardware, probes: Probes, tmp_path: Path
) -> None:
    machine = Instruments(card)
    for alone in (False, True, True):
        machine.before_start(loading(tmp_path / "model.gguf"), alone=alone)
    assert probes.made == ["cpu", "gpu", "cpu"]


def test_a_failed_probe_of_the_gpus_is_tried_once_more(
    card: Hardware, probes: Probes, tmp_path: Path
) -> None:
    probes.gpus = "the GPU's memory bandwidth is not known: out of memory"
    machine = Instruments(card)
    for _ in range(3):
        machine.before_start(loading(tmp_path / "model.gguf"), alone=True)
    assert probes.made.count("gpu") == 2
