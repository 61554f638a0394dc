"""If a model does not fit as it is, is it loaded in the next best way, and is that said?

The guide loads a model in 32 bits, then 16, 8, 4, and on the CPU in the end, until one does not
fail. Here that is ``fit=True``; what fits is known before the load, and instead of this machine's
memory a room can be stated.
"""

import re

import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.fit.room import stated_room
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.hardware import Hardware
from pytest_llmperf.measure import Measurement

from .conftest import SMALL

GIB = 2**30


def chosen(seen: Measurement) -> tuple[str, list[str]]:
    """What was taken, and what would have been better."""
    assert seen.expected is not None
    return seen.expected.chosen, [each.what for each in seen.expected.rejected]


@pytest.mark.claim("the first way that fits is taken, and named: llama.cpp")
@pytest.mark.parametrize(
    ("ram_gb", "quantization", "better"),
    [
        (8, "F16", []),
        (0.3, "Q8_0", ["F16, on the CPU"]),
        pytest.param(
            0.17, "Q4_K_M", ["F16, on the CPU", "Q8_0, on the CPU"], marks=pytest.mark.quick
        ),
    ],
)
@perf(samples=5)
def test_llama_cpp_takes_the_first_type_that_fits(
    load_model: LoadModel, measure: Measure, ram_gb: float, quantization: str, better: list[str]
) -> None:
    model = load_model(SMALL, backend="llama-cpp", fit=stated_room(ram_gb=ram_gb), n_ctx=512)
    seen = measure(model, prompt_tokens=64, new_tokens=16)
    assert chosen(seen) == (f"{quantization}, on the CPU", better)
    assert model.files is not None
    assert model.files.quantization == quantization


@pytest.mark.quick
@pytest.mark.claim("32 bits, then 16, 8 and 4; what fits in no way is not tried, and all are named")
@pytest.mark.parametrize(
    ("backend", "ways"),
    [
        ("llama-cpp", ["F16, on the CPU", "Q8_0, on the CPU", "Q4_K_M, on the CPU"]),
        (
            "transformers",
            ["F32, on the CPU", "BF16, on the CPU", "packed as int8", "packed as nf4"],
        ),
    ],
)
def test_what_fits_in_no_way_says_so(
    load_model: LoadModel, hardware: Hardware, backend: str, ways: list[str]
) -> None:
    if hardware.accelerators:
        pytest.skip("there is an accelerator, and its ways come before these")
    words = ".*".join(re.escape(each) for each in ways)
    with pytest.raises(pytest.skip.Exception, match=f"(?s)fits in no way: {words}"):
        load_model(SMALL, backend=backend, fit=stated_room(ram_gb=0.05))


@pytest.mark.claim("less memory on a GPU: fewer bits, then a part of the layers, then the CPU")
@requires(gpu=True)
@pytest.mark.parametrize(
    ("vram_gb", "way"),
    [(2, "F16, all layers"), (0.9, "Q8_0, all layers"), (0.01, "Q4_K_M, on the CPU")],
)
def test_a_gpu_is_left_step_by_step(load_model: LoadModel, vram_gb: float, way: str) -> None:
    room = stated_room(ram_gb=8, vram_gb=vram_gb)
    model = load_model(SMALL, backend="llama-cpp", fit=room, n_ctx=512)
    assert model.loading.spec.quantization == way.partition(",")[0]
    assert (model.engine.device == "cpu") is way.endswith("CPU")


@pytest.mark.claim("the first way that fits is taken, and named: transformers")
@pytest.mark.parametrize(("ram_gb", "taken"), [(8, "F32"), (0.6, "BF16")])
@perf(samples=5)
def test_transformers_takes_the_first_type_that_fits(
    load_model: LoadModel, measure: Measure, ram_gb: float, taken: str
) -> None:
    """Where weights and cache alone have room it is tried: a stated room is not enforced."""
    model = load_model(SMALL, backend="transformers", fit=stated_room(ram_gb=ram_gb), device="cpu")
    seen = measure(model, prompt_tokens=64, new_tokens=8)
    assert chosen(seen)[0].startswith(taken)
    assert seen.engine.weight_element_bytes == {"F32": 4, "BF16": 2}[taken]
