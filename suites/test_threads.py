"""How many threads pay here, and does the installed llama.cpp use the vector units of this CPU?

Reading a prompt is arithmetic and grows with the cores; decoding waits for memory and may stop to
grow long before. More threads than cores gain nothing in either.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.hardware import Hardware, usable_cores
from pytest_llmperf.measure import Measurement

from .conftest import Model

CORES = usable_cores()
COUNTS = sorted({2**power for power in range(CORES.bit_length())} | {CORES, 2 * CORES})
"""To twice the cores: a knee takes three points, and two cores are two."""
# What llama.cpp calls an instruction set when it tells its build, and what the CPU calls it.
WIDE = {"AVX2", "NEON"}
KERNELS = {
    "AVX2": "avx2",
    "FMA": "fma",
    "F16C": "f16c",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    "NEON": "asimd",
    "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}


@pytest.fixture
def on_cpu(small_gguf: Model, own: str | None) -> dict[str, Any]:
    """What is loaded, computed by the CPU alone."""
    model = small_gguf if own else {**small_gguf, "quantization": "Q4_K_M"}
    return {**model, "backend": "llama-cpp", "n_gpu_layers": 0}


@pytest.mark.claim("speed by threads, and its knee")
@perf(samples=5)
@pytest.mark.parametrize("n_threads", COUNTS)
def test_so_many_threads(
    load_model: LoadModel, measure: Measure, on_cpu: dict[str, Any], n_threads: int
) -> None:
    model = load_model(**on_cpu, n_threads=n_threads)
    seen = measure(model, prompt_tokens=128, new_tokens=32)
    assert seen.engine.threads == n_threads
    assert seen.conditions is not None
    if seen.conditions.own_cpu_share is not None:
        took = seen.conditions.own_cpu_share * n_threads
        left = CORES - (seen.conditions.other_cores or 0)
        assert 0.6 * min(n_threads, left) < took < 1.1 * min(n_threads, CORES)


@pytest.fixture
def speed(
    load_model: LoadModel, measure: Measure, on_cpu: dict[str, Any]
) -> Callable[[int], Measurement]:
    """Of so many threads."""

    def of(n_threads: int) -> Measurement:
        model = load_model(**on_cpu, n_threads=n_threads)
        return measure(model, prompt_tokens=128, new_tokens=16, name=f"{n_threads} threads")

    return of


@pytest.mark.claim("two threads read a prompt faster than one")
@pytest.mark.skipif(CORES < 2, reason="one core: there is nothing to share")
@perf(samples=5)
def test_two_threads_read_a_prompt_faster_than_one(
    speed: Callable[[int], Measurement], record_property: Callable[[str, object], None]
) -> None:
    ratio = speed(2).prefill_tps.median / speed(1).prefill_tps.median
    record_property("prefill, two threads ÷ one", f"{ratio:.2f}")
    assert ratio > 1.2


@pytest.mark.claim(
    "as many threads as cores, or slightly more, are best",
    instead="as many are; one more gains nothing, and twice as many are slower",
)
@perf(samples=5)
def test_more_threads_than_cores_gain_nothing(
    speed: Callable[[int], Measurement], record_property: Callable[[str, object], None]
) -> None:
    """Threads that spin take turns on a core. "Slightly higher" is procedure 5 of the guide.

    Its "physical" cores are what ``nproc`` counts, as here: those that the process may use.
    """
    as_many, one_more, twice = (speed(each) for each in (CORES, CORES + 1, 2 * CORES))
    for name, seen in (("one more", one_more), ("twice as many", twice)):
        ratio = seen.decode_tps.median / as_many.decode_tps.median
        record_property(f"decode, {name} ÷ as many threads as cores", f"{ratio:.2f}")
    assert one_more.decode_tps.median < 1.05 * as_many.decode_tps.median
    assert twice.decode_tps.median < 0.9 * as_many.decode_tps.median


@pytest.fixture
def build(load_model: LoadModel, on_cpu: dict[str, Any]) -> set[str]:
    """What the installed llama.cpp says that it was built with."""
    return set(re.findall(r"(\w+) = 1", load_model(**on_cpu).engine.build))


@pytest.mark.quick
@pytest.mark.claim("the installed build uses vector instructions of this CPU")
def test_the_build_has_vector_instructions_of_this_cpu(
    build: set[str], hardware: Hardware, record_property: Callable[[str, object], None]
) -> None:
    """What it leaves idle is told, and not asserted: a build for many machines does."""
    if not hardware.cpu.features:
        pytest.skip("this system does not tell the instruction sets of its CPU")
    offered = {name for name, flag in KERNELS.items() if flag in hardware.cpu.features}
    used = build & KERNELS.keys()
    idle = ", ".join(sorted(offered - used)) or "none"
    record_property("sets that it leaves idle (-DGGML_NATIVE=ON uses them)", idle)
    assert used <= offered, "it would die of an illegal instruction"
    plain = offered.isdisjoint(WIDE)
    assert plain or used & WIDE, "plain instructions are several times slower"


@pytest.mark.quick
@pytest.mark.claim("the installed build has OpenBLAS to read prompts with", instead="it needs none")
def test_prompts_are_read_without_a_blas(
    build: set[str], record_property: Callable[[str, object], None]
) -> None:
    """The guide's commands of 2023 ask for it; llama.cpp has kernels of its own since."""
    libraries = ("BLAS", "OPENMP", "LLAMAFILE", "REPACK")
    record_property("built with", ", ".join(each for each in libraries if each in build))
    assert build & {"LLAMAFILE", "REPACK", "ACCELERATE", "BLAS"}
