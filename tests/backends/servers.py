"""Which real servers has this machine, what makes those that it lacks, and which do wrong?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.models.cache import cache_root
from pytest_llmperf.worker.pool import LoadedModel
from tests.faults.processes import prompt

HERE = Path(__file__).parent


def _llama_server() -> str | None:
    """The one of the benchmarks, else that of the PATH."""
    built = sorted((cache_root() / "llama-server").glob("*/llama-server"))
    return str(built[-1]) if built else shutil.which("llama-server")


def vllm_python() -> str:
    """The interpreter that LLMPERF_VLLM_PYTHON names; empty without."""
    return os.environ.get("LLMPERF_VLLM_PYTHON", "")


LLAMA_SERVER = (
    f"{_llama_server()} --model {{model}} --host {{host}} --port {{port}} --cache-ram 0 "
    "--ctx-size {context_tokens} --threads {threads} --parallel 1 --offline"
)
needs_llama_server = pytest.mark.skipif(
    _llama_server() is None,
    reason="no llama-server: python benchmarks/llama_bench_build.py llama-server",
)
needs_vllm = pytest.mark.skipif(
    not Path(vllm_python()).is_file(),
    reason="no vLLM: set LLMPERF_VLLM_PYTHON to the interpreter of an environment that has it",
)


def faulty(fault: str) -> str:
    """The command of a server that does this wrong."""
    return f"{{python}} {HERE / 'faulty_server.py'} {{port}} {fault}"


def children(model: LoadedModel) -> list[psutil.Process]:
    return psutil.Process(model.worker.pid).children(recursive=True)


def prompt_of(tokens: int) -> list[int]:
    """Token ids for a server that knows a hundred of them."""
    return [each % 100 for each in prompt(tokens)]
