"""Is what computes probed, again when accused, and no more often than can be borne?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from pytest_llmperf.backends import EngineFacts, find_backend
from pytest_llmperf.hardware.calibration import Calibration
from pytest_llmperf.hardware.facts import Accelerator, Hardware
from pytest_llmperf.hardware.gpu_lease import Seat
from pytest_llmperf.hardware.gpu_watch import GpuReading, GpuSnapshot, GpuWatch
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
        self.listed: list[str | None] = []
        self.cpu: Calibration | str = PROBE
        self.gpus: tuple[Calibration, ...] | str = (CARD,)
        monkeypatch.setattr(instruments, "calibrate_cpu", self._cpu)
        monkeypatch.setattr(instruments, "calibrate_cuda", self._cuda)
        monkeypatch.setattr(GpuWatch, "start", GpuWatch)

    def _cpu(self, *_: object) -> Calibration | str:
        self.made.append("cpu")
        return self.cpu

    def _cuda(self, environment: Mapping[str, str]) -> tuple[Calibration, ...] | str:
        self.made.append("gpu")
        self.listed.append(environment.get("CUDA_VISIBLE_DEVICES"))
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
    machine.before_start(loading(tmp_path / "model.gguf"), None, alone=True)
    probes.made.clear()
    assert machine.probes_around(model) == (PROBE, PROBE)
    assert probes.made == ["cpu"]
    probes.cpu = "the memory bandwidth is not known: the probe was killed"
    assert machine.probes_around(model) == (PROBE, None)


def test_a_gpu_is_not_probed_while_it_holds_a_model(
    card: Hardware, probes: Probes, tmp_path: Path
) -> None:
    machine = Instruments(card)
    machine.before_start(loading(tmp_path / "model.gguf"), None, alone=True)
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
        machine.before_start(loading(tmp_path / "model.gguf"), None, alone=alone)
    assert probes.made == ["cpu", "gpu", "cpu"]


def test_a_failed_probe_of_the_gpus_is_tried_once_more(
    card: Hardware, probes: Probes, tmp_path: Path
) -> None:
    probes.gpus = "the GPU's memory bandwidth is not known: out of memory"
    machine = Instruments(card)
    for _ in range(3):
        machine.before_start(loading(tmp_path / "model.gguf"), None, alone=True)
    assert probes.made.count("gpu") == 2


def seat(listed: str | None, gpu: Accelerator) -> Seat:
    return Seat(gpus=(msgspec.structs.replace(gpu, uuid=f"GPU-{listed}"),), listed=listed)


def test_only_the_gpus_that_are_ours_are_probed_and_each_once(
    card: Hardware, probes: Probes, tmp_path: Path
) -> None:
    """What others are timed on is left alone, and so is the CPU that times them."""
    machine = Instruments(card)
    (gpu,) = card.accelerators
    for listed in ("0", "0", "1", "0"):
        machine.before_start(loading(tmp_path / "a.gguf"), seat(listed, gpu), alone=True)
    assert probes.made == ["gpu", "gpu"]
    assert probes.listed == ["0", "1"]


def test_a_cpu_that_computes_instead_of_a_gpu_is_probed_then(
    card: Hardware, probes: Probes, tmp_path: Path
) -> None:
    machine = Instruments(card)
    machine.before_start(loading(tmp_path / "a.gguf"), seat("0", card.accelerators[0]), alone=True)
    before, after = machine.probes_around(loaded(tmp_path / "a.gguf", "cpu"))
    assert probes.made == ["gpu", "cpu", "cpu"]
    assert before is not None
    assert after is not None


def test_readings_are_those_of_our_own_gpus(card: Hardware) -> None:
    class Watch:
        def read(self) -> GpuSnapshot:
            names = ("GPU-0", "GPU-1")
            return GpuSnapshot(
                gpus=tuple(
                    GpuReading(uuid=each, pci=None, name="RTX", integrated=False) for each in names
                )
            )

    machine = Instruments(card)
    machine.gpu = cast("GpuWatch", Watch())
    (gpu,) = card.accelerators
    for of, wanted in ((seat("1", gpu), ["GPU-1"]), (None, ["GPU-0", "GPU-1"])):
        snapshot = machine.read_gpus(of)
        assert snapshot is not None
        assert [each.uuid for each in snapshot.gpus] == wanted
