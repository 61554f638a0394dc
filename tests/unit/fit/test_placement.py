"""Do as many layers go to the GPU as there is room for?"""

from __future__ import annotations

import pytest

from pytest_llmperf.fit.engines import ENGINES
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.placement import place
from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.room import Room
from tests.unit.fit.models import GIB, MIB, model

LLAMA = ENGINES["llama-cpp"]
LOAD = Load(context_tokens=2048, prompt_tokens=512)
SIZE = model(layers=16, layer_mib=256, table_mib=128, output_mib=128)


def room(vram_mib: int, ram_mib: int | None = 64 * 1024) -> Room:
    ram = None if ram_mib is None else ram_mib * MIB
    return Room(name="test", ram=ram, vram=(vram_mib * MIB,))


def test_all_layers_where_they_fit() -> None:
    found = place(LLAMA, SIZE, "Q8_0", LOAD, room(16 * 1024))
    assert (found.where, found.devices.gpu_layers, found.preflight.fit) == ("GPU", 17, Fit.YES)


@pytest.mark.parametrize("vram_mib", [1536, 2048, 3072, 4096])
def test_one_layer_more_would_not_fit(vram_mib: int) -> None:
    here = room(vram_mib)
    found = place(LLAMA, SIZE, "Q8_0", LOAD, here)
    layers = found.devices.gpu_layers
    assert 0 < layers < 17
    assert found.where == f"{layers}/17 on GPU"
    gpu = found.footprint.gpus[0]
    assert gpu.total.high * 1.1 <= here.vram[0] < (gpu.total.high + 260 * MIB) * 1.1


def test_nothing_goes_to_a_gpu_that_is_too_small() -> None:
    assert place(LLAMA, SIZE, "Q8_0", LOAD, room(128)).where == "CPU"


def test_no_gpu_is_the_cpu() -> None:
    assert place(LLAMA, SIZE, "Q8_0", LOAD, Room(name="test", ram=64 * GIB)).where == "CPU"


def test_a_model_for_which_there_is_no_room_at_all_does_not_fit() -> None:
    found = place(LLAMA, SIZE, "Q8_0", LOAD, room(1024, 1024))
    assert found.preflight.fit is Fit.NO
    assert found.preflight.reasons


def test_a_model_too_large_for_either_may_fit_into_both() -> None:
    found = place(LLAMA, SIZE, "Q8_0", LOAD, room(3 * 1024, 3 * 1024))
    assert found.preflight.fit is Fit.YES
    assert 0 < found.devices.gpu_layers < 17


def test_in_a_shared_pool_layers_are_not_moved_back_and_forth() -> None:
    shared = Room(name="test", ram=64 * GIB, is_shared=True)
    assert place(LLAMA, SIZE, "Q8_0", LOAD, shared).where == "GPU"


def test_onnxruntime_stays_on_the_cpu() -> None:
    assert place(ENGINES["onnxruntime"], SIZE, "INT4", LOAD, room(16 * 1024)).where == "CPU"


def test_vllm_is_on_gpus_alone_where_there_are_any() -> None:
    without = place(ENGINES["vllm"], SIZE, "BF16", LOAD, Room(name="test", ram=64 * GIB))
    assert without.preflight.fit is Fit.YES
    assert [share.device for share in without.footprint.shares] == ["ram"]
    small = Room(name="test", ram=64 * GIB, vram=(GIB,))
    found = place(ENGINES["vllm"], SIZE, "BF16", LOAD, small)
    assert found.preflight.fit is Fit.NO
    assert found.where == without.where.replace("CPU", "GPU")


def test_unequal_gpus_take_in_proportion() -> None:
    both = Room(name="test", ram=64 * GIB, vram=(6 * GIB, 2 * GIB))
    found = place(LLAMA, SIZE, "Q8_0", LOAD, both)
    assert found.where == "2 GPUs"
    large, small = found.footprint.gpus
    assert large.weights.low == 3 * small.weights.low
