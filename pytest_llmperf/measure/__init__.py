"""How fast, how big, how right is it? Facts only; nothing here judges."""

from pytest_llmperf.measure.byte_figure import ByteFigure
from pytest_llmperf.measure.instruments import Instruments
from pytest_llmperf.measure.invocation import Plan, check_fits, measure
from pytest_llmperf.measure.measurement import Measurement, MetricAbsent
from pytest_llmperf.measure.memory import MemoryUse
from pytest_llmperf.measure.quantity import Quantity
from pytest_llmperf.measure.workload import Workload

__all__ = [
    "ByteFigure",
    "Instruments",
    "Measurement",
    "MemoryUse",
    "MetricAbsent",
    "Plan",
    "Quantity",
    "Workload",
    "check_fits",
    "measure",
]
