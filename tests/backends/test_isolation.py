"""Do engines stay out of the pytest process?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.processes import PytestRun

TESTS = """
import sys
import pytest

ENGINES = {"torch", "llama_cpp", "transformers", "tokenizers", "safetensors", "gguf"}

@pytest.mark.perf(min_tps=1)
@pytest.mark.parametrize(
    ("backend", "threads"),
    [("llama-cpp", {"n_threads": 1}), ("transformers", {"num_threads": 1})],
)
def test_real(backend, threads, load_model, measure):
    model = load_model("synthetic:llama-15m", backend=backend, **threads)
    assert measure(model, prompt_tokens=16, new_tokens=16).decode_tps.median > 0

def test_modules():
    assert not ENGINES & set(sys.modules)
"""


@pytest.mark.engine
def test_a_pytest_that_measured_real_engines_has_imported_none(
    run_pytest: Callable[[str], PytestRun],
) -> None:
    run = run_pytest(TESTS)
    assert run.finish(timeout_s=120) == 0, run.output
    assert "3 passed" in run.output
    assert run.family.survivors() == []
