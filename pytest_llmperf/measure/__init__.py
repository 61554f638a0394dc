"""How fast, how big, how right is it? Facts only; nothing here judges."""

from pytest_llmperf.measure.invocation import Plan, check_fits, measure
from pytest_llmperf.measure.measurement import Measurement, MetricAbsent
from pytest_llmperf.measure.memory import MemoryPeak
from pytest_llmperf.measure.quantity import Quantity
from pytest_llmperf.measure.workload import Workload

__all__ = [
    "Measurement",
    "MemoryPeak",
    "MetricAbsent",
    "Plan",
    "Quantity",
    "Workload",
    "check_fits",
    "measure",
]
