"""Are real GPUs leased, and does an engine see the one that it was given?

    pytest --llmperf --llmperf-require=gpu -rs tests/gpu/test_leases.py

Not run yet: no machine of this project had a GPU when it was written. Tests of several GPUs skip
where there is one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmperf import requires
from pytest_llmperf.hardware import Hardware
from pytest_llmperf.hardware.gpu_lease import GpuLeases
from pytest_llmperf.hardware.lock import Lock
from pytest_llmperf.hardware.visible import VARIABLE, visible
from pytest_llmperf.measure import Instruments
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.pool import WorkerPool


@pytest.fixture
def pool(hardware: Hardware, tmp_path: Path) -> Iterator[WorkerPool]:
    """Workers that lease in a folder of this test."""
    instruments = Instruments(hardware)
    pool = WorkerPool(
        tmp_path, instruments, GpuLeases(visible(hardware.gpus, os.environ), tmp_path)
    )
    yield pool
    pool.close()
    instruments.close()


def loading() -> Loading:
    backend, options = choose("transformers", {"dtype": "float16"})
    return prepare(ModelSpec("synthetic:llama-160m"), backend, options, timeout_s=300)


def is_free(folder: Path) -> bool:
    taken = []
    for path in folder.glob("gpu-*.lock"):
        lock = Lock(path)
        taken.append(lock.take())
        lock.leave()
    return all(taken)


def users_of(uuid: str | None) -> set[int]:
    fields = ["nvidia-smi", "--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader"]
    told = subprocess.run(fields, capture_output=True, text=True, check=True).stdout
    pairs = [line.split(", ") for line in told.splitlines()]
    return {int(pid) for card, pid in pairs if card == uuid}


@requires(gpu=True)
def test_the_engine_computes_on_the_card_that_is_leased(pool: WorkerPool, tmp_path: Path) -> None:
    model = pool.load(loading())
    assert model.engine.device.startswith("cuda")
    assert model.seat is not None
    (card,) = model.seat.gpus
    assert not is_free(tmp_path)
    (peak,) = model.load_devices
    assert peak.uuid is not None
    assert (card.uuid or "").endswith(peak.uuid)
    pool.close()
    assert is_free(tmp_path)


@requires(gpus=2)
def test_every_card_can_be_named_in_every_way(hardware: Hardware) -> None:
    """In PCI order, which is NVML's and, being asked for, CUDA's."""
    for number, gpu in enumerate(hardware.gpus):
        for name in (str(number), str(gpu.uuid), str(gpu.uuid)[:12]):
            variables = {VARIABLE: name, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
            seen = visible(hardware.gpus, variables)
            assert [each.uuid for each in seen.gpus] == [gpu.uuid]
            program = "import torch; print(torch.cuda.get_device_properties(0).uuid)"
            told = subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                check=True,
            )
            assert (gpu.uuid or "").endswith(told.stdout.strip())


@requires(gpus=2)
def test_two_processes_compute_on_two_cards(
    hardware: Hardware, pool: WorkerPool, tmp_path: Path
) -> None:
    other = WorkerPool(
        tmp_path / "other", gpus=GpuLeases(visible(hardware.gpus, os.environ), tmp_path)
    )
    (tmp_path / "other").mkdir()
    try:
        seats = [each.load(loading()).seat for each in (pool, other)]
    finally:
        other.close()
    cards = [seat.gpus[0].uuid for seat in seats if seat is not None]
    assert len(set(cards)) == 2


@requires(gpu=True)
def test_an_engine_holds_its_card_when_the_taker_of_the_lease_is_gone(
    hardware: Hardware, tmp_path: Path
) -> None:
    """Our descriptors are closed, as the kernel closes those of a process that was killed."""
    leases = GpuLeases(visible(hardware.gpus, os.environ), tmp_path)
    pool = WorkerPool(tmp_path, gpus=leases)
    try:
        model = pool.load(loading())
        assert model.seat is not None
        leases.leave()
        assert not is_free(tmp_path)
    finally:
        pool.close()
    assert is_free(tmp_path)
    assert model.worker.pid not in users_of(model.seat.gpus[0].uuid)
