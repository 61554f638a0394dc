"""How small are weights that GPTQ packed, what do they say then, and do they run here?

A folder is packed by ``pack_gptq.py`` beside this file, with random tokens to calibrate it: GPTQ
is not "calibration-free", as the guide has it. gptqmodel wants an environment of its own.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pytest_llmperf import child, perf, requires
from pytest_llmperf.fixtures import Compare, LoadModel, Measure
from pytest_llmperf.options import read_settings
from pytest_llmperf.worker.environment import worker_environment

from .conftest import TRAINED

PACKER = Path(__file__).with_name("pack_gptq.py")
HIDDEN, INNER, CACHED, LAYERS, VOCABULARY = 256, 768, 128, 4, 512
"""Of ``trained:small``; ``CACHED``: the width of its keys and values."""
MATRICES = [
    *[(HIDDEN, outputs) for outputs in (HIDDEN, HIDDEN, CACHED, CACHED, INNER, INNER)],
    (INNER, HIDDEN),
]
"""Of a layer: inputs and outputs."""

Pack = Callable[[str, int], str]


@pytest.fixture(scope="module")
def pack(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Make a folder of a source, with so many weights to a scale; once."""
    python = read_settings(pytestconfig).python.get("transformers", sys.executable)
    there = [python, "-c", "import importlib.metadata as each; each.version('gptqmodel')"]
    if subprocess.run(there, capture_output=True, check=False).returncode:
        pytest.skip(
            f"{python} has no gptqmodel: pip install 'pytest-llmperf[gptq]' in an environment of "
            "its own, then --llmperf-python transformers=PATH, the path of its python"
        )

    @cache
    def make(source: str, group_size: int) -> str:
        folder = tmp_path_factory.mktemp("gptq") / f"{source.partition(':')[2]}-{group_size}"
        command = [python, str(PACKER), source, str(folder), "--group-size", str(group_size)]
        environment = child.importable(worker_environment(os.environ))
        made = subprocess.run(
            command,
            env=environment,
            cwd=folder.parent,  # gptqmodel leaves logs where it runs
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
        return str(folder)

    return make


@pytest.mark.claim("groups of 32 take more bits than groups of 128, and say more of what bf16 says")
@perf(samples=5, max_kl_divergence=0.002)
def test_a_smaller_group_takes_more_bits_and_says_more_of_what_bf16_says(
    load_model: LoadModel, measure: Measure, pack: Pack
) -> None:
    lost = []
    for group_size in (128, 32):
        model = load_model(pack(TRAINED, group_size), backend="transformers")
        assert model.files is not None
        assert model.files.quantization == "gptq-4bit"
        assert model.files.weight_bytes == bytes_in_groups_of(group_size)
        assert model.engine.build.endswith("Linear")  # the kernel that multiplies
        told = measure(
            model,
            prompt_tokens=32,
            new_tokens=8,
            against={"source": TRAINED, "dtype": "bfloat16"},
            name=f"groups of {group_size}",
        )
        lost.append(told.kl_divergence.median)
    assert lost[1] < lost[0]


@pytest.mark.claim("GPTQ is faster than bf16 on an NVIDIA GPU")
@requires(gpu=True, vram_gb=20)
@perf(samples=5)
def test_four_bits_are_faster_than_bf16_on_a_gpu(compare: Compare, pack: Pack, size: str) -> None:
    compare(
        {"source": pack(size, 128)},
        {"source": size},
        backend="transformers",
        prompt_tokens=64,
        new_tokens=64,
        min_speedup=1.2,
        max_memory_ratio=0.6,
    )


@pytest.mark.claim("ExLlamaV2 is faster than transformers")
@requires(gpu=True, vram_gb=20, backend="exllamav2")
@perf(samples=5)
def test_exllamav2_is_faster_than_transformers(compare: Compare, pack: Pack, size: str) -> None:
    compare(
        {"backend": "exllamav2"},
        {"backend": "transformers"},
        source=pack(size, 128),
        prompt_tokens=64,
        new_tokens=64,
        min_speedup=1.2,
    )


@pytest.mark.claim("an AWQ folder runs")
@perf(samples=5)
def test_a_folder_of_awq_runs(load_model: LoadModel, measure: Measure, own: str | None) -> None:
    if own is None:
        pytest.skip("packing with AWQ needs CUDA: name a packed folder, --llmperf-model=FOLDER")
    model = load_model(own, backend="transformers")
    if model.files is None or not model.files.quantization.startswith("awq"):
        pytest.skip(f"{own} is not packed with AWQ")
    measure(model, prompt_tokens=64, new_tokens=64)
    assert model.engine.build.endswith("Linear")


def bytes_in_groups_of(group_size: int) -> int:
    """Of the folder's tensors: four bits a weight, and what they need to mean a number."""
    found = 0
    for inputs, outputs in MATRICES:
        scales_and_zeros = inputs // group_size * outputs * (2 + 4 / 8)
        found += inputs * outputs // 2 + round(scales_and_zeros) + 4 * inputs  # the row's group
    norms = (2 * LAYERS + 1) * HIDDEN
    return LAYERS * found + 2 * (VOCABULARY * HIDDEN + norms)
