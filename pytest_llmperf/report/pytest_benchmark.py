"""How do tools that know pytest-benchmark read a run? Its JSON, in seconds per token.

The form is that of pytest-benchmark 5. What it asks for and a result does not hold is said as
pytest-benchmark itself says it where it does not know, such as the commit ``unversioned``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import SPEEDS
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.quantity import percentile
from pytest_llmperf.report.result import JudgedTest, RunResult

_WHISKER = 1.5


def to_pytest_benchmark(result: RunResult, commit: str | None = None) -> dict[str, object]:
    """The whole file: rates of tokens, turned over into the times that pytest-benchmark compares.

    Measurements that are invalid are left out, and second looks too.
    """
    return {
        "machine_info": _machine(result.hardware),
        "commit_info": {
            "id": commit or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": False,
            "project": "",
            "branch": "(unknown)",
        },
        "benchmarks": [each for test in result.tests for each in _benchmarks(test)],
        "datetime": result.created,
        "version": f"pytest-llmperf {result.llmperf}",
    }


def _machine(hardware: Hardware) -> dict[str, object]:
    """No host name: like the fingerprint, it says what is comparable."""
    cpu = hardware.cpu
    return {
        "node": hardware.fingerprint,
        "machine": hardware.arch,
        "system": hardware.os_family,
        "release": hardware.kernel,
        "processor": cpu.vendor,
        "cpu": {
            "arch": hardware.arch,
            "brand_raw": cpu.model_name or cpu.vendor,
            "vendor_id_raw": cpu.vendor,
            "count": cpu.usable_cores,
        },
        "accelerators": [f"{each.vendor} {each.name}" for each in hardware.gpus],
    }


def _benchmarks(test: JudgedTest) -> list[dict[str, object]]:
    found = []
    valid = [each.measurement for each in test.measurements if each.verdict is not Verdict.INVALID]
    for measurement in valid:
        for metric in SPEEDS:
            times = _seconds_per_token(measurement, metric)
            if times:
                name = f"{measurement.name} " if len(test.measurements) > 1 else ""
                label = f"{name}{BY_NAME[metric].label}"
                found.append(_benchmark(test.test, label, measurement, metric, times))
    return found


def _seconds_per_token(measurement: Measurement, metric: str) -> list[float]:
    quantity = measurement.metrics.get(metric)
    if quantity is None:
        return []
    return [1 / value for value in quantity.values or [quantity.median] if value > 0]


def _benchmark(
    nodeid: str, label: str, measurement: Measurement, metric: str, times: Sequence[float]
) -> dict[str, object]:
    name, bracket, case = nodeid.partition("::")[2].partition("[")
    asked = measurement.workload
    return {
        "group": metric,
        "name": f"{name}{bracket}{case} {label}",
        "fullname": f"{nodeid} {label}",
        "params": None,
        "param": case.removesuffix("]") or None,
        "extra_info": {
            "unit": "s/token",
            "backend": measurement.backend,
            "engine_version": measurement.version,
            "model": measurement.spec.source,
            "quantization": measurement.spec.quantization,
            "prompt_tokens": asked.prompt_tokens,
            "new_tokens": asked.new_tokens,
            "batch": asked.batch,
            "depth": asked.depth,
        },
        "options": {"timer": "perf_counter", "warmup": measurement.warmup_samples > 0},
        "stats": _stats(times),
    }


def _stats(times: Sequence[float]) -> dict[str, object]:
    """Of one or more times, each of which is a round of one iteration."""
    ordered = sorted(times)
    mean = statistics.fmean(ordered)
    stddev = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
    q1, q3 = percentile(ordered, 25), percentile(ordered, 75)
    iqr = q3 - q1
    low, high = q1 - _WHISKER * iqr, q3 + _WHISKER * iqr
    within = [each for each in ordered if low <= each <= high]
    beyond_iqr = len(ordered) - len(within)
    beyond_stddev = sum(abs(each - mean) > stddev for each in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": stddev,
        "rounds": len(ordered),
        "median": statistics.median(ordered),
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond_iqr,
        "stddev_outliers": beyond_stddev,
        "outliers": f"{beyond_stddev};{beyond_iqr}",
        "ld15iqr": within[0],
        "hd15iqr": within[-1],
        "ops": 1 / mean,
        "total": sum(ordered),
        "data": list(times),
        "iterations": 1,
    }
