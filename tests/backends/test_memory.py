"""Is the peak of resident memory what the engine really took, in the phase that took it?"""

from __future__ import annotations

import pytest

from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Measurement, Plan, Workload, measure
from pytest_llmperf.measure.byte_figure import ByteFigure
from pytest_llmperf.measure.instruments import Instruments
from pytest_llmperf.measure.memory import MemoryUse
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load

MIB = 1 << 20
WORKLOAD = Workload(prompt_tokens=8, new_tokens=8)
PLAN = Plan(samples=5, time_budget_s=5.0, timeout_s=60.0)


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return Instruments(detect())


def watched(model: LoadedModel, instruments: Instruments) -> tuple[Measurement, MemoryUse]:
    measurement = measure(model, WORKLOAD, PLAN, instruments)
    assert measurement.memory is not None, measurement.absent
    return measurement, measurement.memory


def mib(figure: ByteFigure | None) -> float:
    """An exact figure in MiB."""
    assert figure is not None
    assert figure.kind == "exact"
    return figure.bytes / MIB


def test_memory_that_was_taken_is_in_the_peak_and_nothing_else(
    load: Load, instruments: Instruments
) -> None:
    measurement, use = watched(load("fake", ram_mib=300), instruments)
    assert 300 <= mib(use.peak) < 300 + 150
    assert measurement.ram.median * 1024 == pytest.approx(mib(use.peak))
    assert measurement.ram.kind == "exact"
    assert use.unknown == {}


def test_what_is_held_for_good_is_private_memory_at_the_end(
    load: Load, instruments: Instruments
) -> None:
    little = watched(load("fake", ram_mib=20), instruments)[1]
    much = watched(load("fake", ram_mib=300), instruments)[1]
    assert mib(much.anon) - mib(little.anon) == pytest.approx(280, abs=20)
    assert mib(much.file) == pytest.approx(mib(little.file), abs=20)


def test_memory_taken_and_given_back_within_a_request_is_in_its_phases_and_not_in_the_load(
    load: Load, instruments: Instruments
) -> None:
    without = watched(load("fake", ram_mib=20), instruments)[1]
    use = watched(load("fake", ram_mib=20, spike_mib=200), instruments)[1]
    assert mib(without.peak) + 190 < mib(use.peak) < mib(without.peak) + 250
    assert mib(use.load) < 150
    assert mib(use.prefill) > 200
    assert mib(use.decode) > 200
    assert mib(use.anon) < 150


def test_a_second_measurement_of_the_worker_knows_the_same_load(
    load: Load, instruments: Instruments
) -> None:
    model = load("fake", ram_mib=20, spike_mib=100)
    first = watched(model, instruments)[1]
    second = watched(model, instruments)[1]
    assert first.load == second.load
    assert "the worker had answered" in second.peak.how


def test_a_worker_with_children_has_a_bound_not_an_exact_peak(
    load: Load, instruments: Instruments
) -> None:
    measurement, use = watched(load("fake", disaster="grandchild", at="load"), instruments)
    assert (measurement.ram.kind, use.processes) == ("bound", 2)
    assert use.peak.low_bytes is not None
    assert measurement.ram.at_least is not None
    assert measurement.ram.at_least * 2**30 == pytest.approx(use.peak.low_bytes)
    assert 0 < use.peak.low_bytes < use.peak.bytes
    assert use.pss is not None
    assert use.pss.bytes < use.peak.bytes
    assert use.unknown == {}


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["llama-cpp", "transformers"])
def test_a_real_engines_peak_holds_at_least_its_weights(
    engine: str, load: Load, instruments: Instruments
) -> None:
    model = load(engine, quantization="F32")
    assert model.files is not None
    use = watched(model, instruments)[1]
    assert mib(use.peak) > model.files.weight_bytes / MIB
    assert mib(use.anon) + mib(use.file) > model.files.weight_bytes / MIB
    assert use.unknown == {}
