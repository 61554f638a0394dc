"""Does a folder that GPTQ has packed run on the CPU, and is what it needs named where it is not?

`make heavy` makes the environment and names its Python in LLMPERF_GPTQ_PYTHON.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from pathlib import Path

import pytest

from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.worker.errors import EngineNotInstalled
from tests.backends.conftest import Load
from tests.faults.processes import generate, prompt

pytestmark = pytest.mark.engine

PYTHON = os.environ.get("LLMPERF_GPTQ_PYTHON")
INSTALLED = {each.name.lower() for each in importlib.metadata.distributions()}
MAKER = Path(__file__).parents[2] / "suites" / "pack_gptq.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 15M model in four bits."""
    packed = tmp_path_factory.mktemp("gptq") / "llama-15m"
    assert PYTHON is not None
    command = [PYTHON, str(MAKER), "synthetic:llama-15m", str(packed)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(MAKER.parents[1])}
    made = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return packed


@pytest.mark.skipif(PYTHON is None, reason="GPTQ needs an environment of its own: make heavy")
def test_a_packed_folder_runs_in_four_bits(folder: Path, load: Load) -> None:
    model = load("transformers", source=str(folder), device="cpu", interpreter=PYTHON)
    assert model.files is not None
    assert model.files.quantization == "gptq-4bit"
    assert model.engine.build.endswith("Linear"), "the kernel that multiplies"
    first = generate(model, prompt(40), 16)
    assert (first.count, len(set(first.token_ids)) > 1) == (16, True)
    assert generate(model, prompt(40), 16).token_ids == first.token_ids


@pytest.mark.skipif("gptqmodel" in INSTALLED, reason="gptqmodel is installed")
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_packed_folder_without_its_package_is_not_installed(
    method: str, load: Load, tmp_path: Path
) -> None:
    plain = Path(resolve(ModelSpec("synthetic:llama-15m", "BF16"), "hf").path)
    for each in plain.iterdir():
        if each.name != "config.json":
            (tmp_path / each.name).symlink_to(each)
    config = json.loads((plain / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = rf"is packed with {method}, and gptqmodel is not installed: pip install 'pytest-llmperf"
    with pytest.raises(EngineNotInstalled, match=said):
        load("transformers", source=str(tmp_path))
