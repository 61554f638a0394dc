"""How fast and how big is this one model here, without writing a test?"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from pytest_llmperf.backends import find_backend, installed_version
from pytest_llmperf.backends.registry import BackendError
from pytest_llmperf.child import Undead
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.lease import LeaseError, cpu_lease
from pytest_llmperf.measure import Instruments, Measurement, Plan, Workload, measure
from pytest_llmperf.measure.bottleneck import Bottleneck, find_bottleneck
from pytest_llmperf.models import ModelError, ModelSpec, ModelUnavailable
from pytest_llmperf.models.hub import find_snapshot
from pytest_llmperf.report.page import page
from pytest_llmperf.worker.errors import EngineNotInstalled, EngineRefusal, WorkerError
from pytest_llmperf.worker.loading import choose, prepare
from pytest_llmperf.worker.pool import WorkerPool

INVALID = 1
USAGE = 2
NOTHING_MEASURED = 3
TOOL_FAILED = 4
_CLEAR = "\r\x1b[2K"


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
    parser.add_argument("--quantization", metavar="Q", help="of a synthetic model, such as Q8_0")
    defaults = Workload()
    for name in ("prompt_tokens", "new_tokens", "batch", "depth", "seed"):
        value = getattr(defaults, name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=int, default=value, metavar="N", help=f"({value})")
    plan = Plan()
    parser.add_argument("--samples", type=read_samples, default=plan.samples, metavar="N")
    parser.add_argument("--time-budget", type=read_seconds, default=plan.time_budget_s, metavar="S")
    parser.add_argument("--timeout", type=read_seconds, default=plan.timeout_s, metavar="S")
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        type=read_option,
        metavar="NAME=VALUE",
        help="an option of the engine, such as n_threads=4; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def read_samples(text: str) -> int:
    """How many samples a measurement takes. Raises ArgumentTypeError."""
    if not text.isdecimal() or not 5 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError("must be a whole number within 5 and 1000")
    return int(text)


def read_seconds(text: str) -> float:
    """A span of time. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds greater than 0")
    return value


def read_option(text: str) -> tuple[str, object]:
    """``n_threads=4``: the value is read as JSON, else taken as text. Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


def run(options: argparse.Namespace) -> int:
    """Measure and print; see :func:`pytest_llmperf.cli.main` for the exit codes."""
    try:
        workload = Workload(
            prompt_tokens=options.prompt_tokens,
            new_tokens=options.new_tokens,
            batch=options.batch,
            depth=options.depth,
            seed=options.seed,
        )
        hardware = detect()
        say = progress_line()
        try:
            measurement = _measure(options, workload, hardware, say)
        finally:
            say("")
    except (ModelUnavailable, EngineNotInstalled) as error:
        return _complain(error, NOTHING_MEASURED)
    except (ValueError, BackendError, EngineRefusal, ModelError) as error:
        return _complain(error, USAGE)
    except (WorkerError, LeaseError, Undead) as error:
        return _complain(error, TOOL_FAILED)
    if options.json:
        report = RunReport(
            hardware=hardware,
            measurement=measurement,
            bottleneck=find_bottleneck(measurement),
        )
        print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        print(page(measurement, hardware))
    return INVALID if measurement.invalid else 0


def _measure(
    options: argparse.Namespace,
    workload: Workload,
    hardware: Hardware,
    say: Callable[[str], None],
) -> Measurement:
    backend, chosen = choose(
        options.backend or default_backend(options.model), dict(options.option)
    )
    plan = Plan(
        samples=options.samples, time_budget_s=options.time_budget, timeout_s=options.timeout
    )
    instruments = Instruments(hardware)
    folder = Path(tempfile.mkdtemp(prefix="pytest-llmperf-run-"))
    with cpu_lease(on_wait=lambda: say("waits for another measurement on this machine")):
        pool = WorkerPool(folder, instruments)
        try:
            loading = prepare(
                ModelSpec(options.model, options.quantization),
                backend,
                chosen,
                timeout_s=options.timeout,
                progress=lambda stage, part: say(f"{stage} {part:.0%}"),
            )
            say("load")
            model = pool.load(loading, say)
            measurement = measure(model, workload, plan, instruments, progress=say)
        finally:
            try:
                pool.close()
            finally:
                instruments.close()
    for trouble in pool.bad_exits:
        print(f"note: {trouble}", file=sys.stderr)
    if not pool.bad_exits:  # else the log that was just named has to stay
        shutil.rmtree(folder, ignore_errors=True)
    return measurement


def default_backend(source: str) -> str:
    """The backend that loads these files; for a synthetic model the first that is installed.

    Raises ModelUnavailable, and InvalidSource, for a model of the hub.
    """
    if source.startswith("synthetic:"):
        installed = installed_version(find_backend("llama-cpp")) is not None
        return "llama-cpp" if installed else "transformers"
    path = find_snapshot(source) if source.startswith("hf:") else Path(source).expanduser()
    if path.suffix == ".gguf" or (path.is_dir() and any(path.glob("*.gguf"))):
        return "llama-cpp"
    return "transformers"


def progress_line() -> Callable[[str], None]:
    """Rewrites one line on a terminal; says nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda _: None

    def say(text: str) -> None:
        sys.stderr.write(f"{_CLEAR}{text[:79]}")
        sys.stderr.flush()

    return say


def _complain(error: Exception, exit_code: int) -> int:
    print(f"pytest-llmperf run: {error}", file=sys.stderr)
    return exit_code
