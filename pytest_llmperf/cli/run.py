"""How fast and how big is this one model here, without writing a test?"""

from __future__ import annotations

import argparse

import msgspec

from pytest_llmperf.cli.arguments import (
    add_engine_options,
    add_plan,
    add_workload,
    plan_of,
    workload_of,
)
from pytest_llmperf.cli.workbench import TROUBLES, Workbench, give_up
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.bottleneck import Bottleneck, find_bottleneck
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.report.page import page

INVALID = 1


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    hardware: Hardware
    measurement: Measurement
    bottleneck: Bottleneck


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("run", help="measure one model without writing a test")
    parser.add_argument("model", help="synthetic:NAME, a GGUF file, a model folder, hf:org/name")
    parser.add_argument("--backend", help="llama-cpp, transformers (default: by the files)")
    parser.add_argument(
        "--python", metavar="PATH", help="the Python, of another environment, that loads it"
    )
    parser.add_argument("--quantization", metavar="Q", help="of a synthetic model, such as Q8_0")
    add_workload(parser, "prompt_tokens", "new_tokens", "batch", "depth", "seed")
    add_plan(parser)
    add_engine_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print; see :func:`pytest_llmperf.cli.main` for the exit codes."""
    try:
        workload = workload_of(options)
        with Workbench("run", detect()) as bench:
            loading = bench.prepare(
                ModelSpec(options.model, options.quantization),
                options.backend,
                dict(options.option),
                timeout_s=options.timeout,
                python=options.python,
            )
            measurement = bench.measure(loading, workload, plan_of(options))
    except TROUBLES as error:
        return give_up("run", error)
    if options.json:
        report = RunReport(
            hardware=bench.hardware,
            measurement=measurement,
            bottleneck=find_bottleneck(measurement),
        )
        print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        print(page(measurement, bench.hardware))
    return INVALID if measurement.invalid else 0
