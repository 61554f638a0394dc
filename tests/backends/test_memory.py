"""Is the peak of resident memory what the engine really took?"""

from __future__ import annotations

import pytest

from pytest_llmperf.measure import Plan, Workload, measure
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load

MIB = 1 << 20
WORKLOAD = Workload(prompt_tokens=8, new_tokens=8)
PLAN = Plan(samples=5, time_budget_s=5.0, timeout_s=60.0)


def peak_mib(model: LoadedModel) -> float:
    measurement = measure(model, WORKLOAD, PLAN)
    assert measurement.memory is not None
    assert measurement.ram.kind == measurement.memory.kind == "exact"
    assert measurement.ram.median * 2**30 == pytest.approx(measurement.memory.peak_bytes)
    return measurement.memory.peak_bytes / MIB


def test_memory_that_was_taken_is_in_the_peak_and_nothing_else(load: Load) -> None:
    assert 300 <= peak_mib(load("fake", ram_mib=300)) < 300 + 150


def test_memory_taken_and_given_back_within_a_request_is_in_the_peak(load: Load) -> None:
    without = peak_mib(load("fake", ram_mib=20))
    assert without + 190 < peak_mib(load("fake", ram_mib=20, spike_mib=200)) < without + 250


def test_a_spike_of_the_requests_is_not_put_down_to_the_load(load: Load) -> None:
    measurement = measure(load("fake", ram_mib=20, spike_mib=200), WORKLOAD, PLAN)
    assert measurement.memory is not None
    assert measurement.memory.load_bytes < 150 * MIB < 200 * MIB < measurement.memory.run_bytes


def test_a_worker_with_children_has_a_bound_not_an_exact_peak(load: Load) -> None:
    measurement = measure(load("fake", disaster="grandchild", at="load"), WORKLOAD, PLAN)
    assert measurement.ram.kind == "bound"
    assert "its children not counted" in measurement.ram.how


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["llama-cpp", "transformers"])
def test_a_real_engines_peak_holds_at_least_its_weights(engine: str, load: Load) -> None:
    model = load(engine, quantization="F32")
    assert model.files is not None
    assert peak_mib(model) > model.files.weight_bytes / MIB
