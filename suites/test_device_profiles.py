"""Do the settings fit the device: a Jetson, a CUDA card, Apple Silicon, a CPU?

The guide keeps a table of settings for each device. Here a device is a room: what its maker states,
less what its system needs; settings follow from it by ``fit=True``, and from how many cores there
are. On a Jetson Orin Nano that leaves 6 of 8 GB, as the guide says.
"""

import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.fit.planning import plan
from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.room import room_of
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.hardware.facts import Hardware

GIB = 2**30


@pytest.mark.quick
@pytest.mark.claim("of a Jetson Orin Nano's 8 GB, 6 are for models")
def test_an_orin_nano_keeps_two_of_its_eight_gigabytes() -> None:
    room = room_of("jetson-orin-nano")
    assert room.is_shared, "its GPU computes in main memory: the two must not be added"
    assert room.ram == 6 * GIB


@pytest.mark.quick
@pytest.mark.claim("settings follow from the device")
@pytest.mark.parametrize(
    ("device", "model", "level", "next_level"),
    [
        ("jetson-orin-nano", "mistral-7b", "Q4_K_M", "Q8_0"),
        ("jetson-orin-nx", "mistral-7b", "Q8_0", "F16"),
        ("apple-m2-16gb", "mistral-7b", "Q8_0", "F16"),
        ("rtx-4060", "mistral-7b", "Q4_K_M", "Q8_0"),
        ("rtx-4090", "llama-2-13b", "Q8_0", "F16"),
        ("cpu-ddr4-16gb", "mistral-7b", "Q8_0", "F16"),
    ],
)
def test_a_device_takes_this_level_and_not_the_next(
    device: str, model: str, level: str, next_level: str
) -> None:
    room = room_of(device)
    fits, does_not = plan(model, room, quantizations=[level, next_level])
    assert fits.fit is Fit.YES
    assert does_not.fit is not Fit.YES or "/" in does_not.where, does_not  # not whole on the GPU
    everything = sum(room.vram) or room.ram
    assert everything is not None
    assert fits.total.high <= everything


@pytest.mark.quick
@pytest.mark.claim("what is chosen fits the device that is found, and uses it")
@perf(samples=5)
def test_what_is_chosen_here_fits_and_uses_what_there_is(
    load_model: LoadModel, measure: Measure, made_here: str, hardware: Hardware
) -> None:
    model = load_model(made_here, backend="llama-cpp", fit=True)
    seen = measure(model, prompt_tokens=64, new_tokens=16)
    assert seen.expected is not None
    assert ("GPU" in seen.expected.chosen) is (model.engine.device != "cpu")
    assert all("needs" in each.why for each in seen.expected.rejected), "what is better had room"
    assert seen.ram.median * GIB <= hardware.memory.usable_bytes
    if model.engine.device == "cpu":
        assert model.engine.threads == hardware.cpu.usable_cores
    else:
        assert seen.vram.median * GIB <= max(gpu.memory_bytes or 0 for gpu in hardware.gpus)


@pytest.mark.claim("a Jetson keeps a quarter of its memory free beside a 7B model in 4 bits")
@requires(device="jetson")
@perf(samples=5)
def test_a_jetson_keeps_its_headroom(
    load_model: LoadModel, measure: Measure, hardware: Hardware
) -> None:
    """A 7B model in four bits, on the board itself."""
    model = load_model("synthetic:mistral-7b", backend="llama-cpp", quantization="Q4_K_M")
    seen = measure(model, prompt_tokens=128, new_tokens=32)
    assert model.engine.device != "cpu", "llama.cpp was built without CUDA"
    assert seen.ram.median * GIB <= 0.75 * hardware.memory.capacity_bytes
