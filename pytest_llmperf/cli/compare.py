"""Which of two is faster here: models, quantizations, options, or versions of an engine?"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from pytest_llmperf.backends.registry import BackendError
from pytest_llmperf.child import Undead
from pytest_llmperf.cli.run import (
    NOTHING_MEASURED,
    TOOL_FAILED,
    USAGE,
    default_backend,
    progress_line,
    read_option,
    read_samples,
    read_seconds,
)
from pytest_llmperf.comparing import compare, read_ratio_limits
from pytest_llmperf.gate.budget import BadLimit
from pytest_llmperf.gate.comparison import Arm
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.lease import LeaseError, cpu_lease
from pytest_llmperf.measure import Instruments, Measurement, Plan, Workload, measure
from pytest_llmperf.models import ModelError, ModelSpec, ModelUnavailable
from pytest_llmperf.report.comparison import comparison_line
from pytest_llmperf.report.result import Comparison
from pytest_llmperf.worker.errors import EngineNotInstalled, EngineRefusal, WorkerError
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.pool import WorkerPool

_BROKEN = 1


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("compare", help="measure two arms in turns: which is faster?")
    arm = (
        "a model, and what it is loaded with: synthetic:llama-160m,quantization=Q4_K_M,n_threads=2"
    )
    parser.add_argument("a", metavar="A", help=arm)
    parser.add_argument("b", metavar="B", help="the same; a lone , stands for the model of A")
    parser.add_argument("--backend", help="of both arms (default: by the files)")
    parser.add_argument(
        "--arm-python",
        metavar="PATH",
        help="the Python that loads B, to compare versions of an engine; its environment needs "
        "pytest-llmperf, too",
    )
    parser.add_argument("--metric", default="decode_tps", choices=sorted(BY_NAME), metavar="NAME")
    for name, value in (("prompt_tokens", 512), ("new_tokens", 128), ("batch", 1), ("depth", 0)):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=int, default=value, metavar="N", help=f"({value})")
    plan = Plan()
    parser.add_argument("--samples", type=read_samples, default=plan.samples, metavar="N")
    parser.add_argument("--time-budget", type=read_seconds, default=plan.time_budget_s, metavar="S")
    parser.add_argument("--timeout", type=read_seconds, default=plan.timeout_s, metavar="S")
    parser.add_argument("--min-speedup", type=float, metavar="X", help="A is X times as fast")
    parser.add_argument("--max-slowdown", metavar="5%%", help="A is at most so much slower")
    parser.add_argument("--max-memory-ratio", type=float, metavar="X")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare and print; see :func:`pytest_llmperf.cli.main` for the exit codes."""
    say = progress_line()
    try:
        compared = _compare(options, say)
    except (ModelUnavailable, EngineNotInstalled) as error:
        return _complain(error, NOTHING_MEASURED)
    except (ValueError, BackendError, BadLimit, EngineRefusal, ModelError) as error:
        return _complain(error, USAGE)
    except (WorkerError, LeaseError, Undead) as error:
        return _complain(error, TOOL_FAILED)
    finally:
        say("")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(compared), indent=1).decode())
    else:
        print(_page(compared))
    broken = compared.invalid is not None or compared.verdict is Verdict.OVER_BUDGET
    return _BROKEN if broken else 0


def _compare(options: argparse.Namespace, say: Callable[[str], None]) -> Comparison:
    limits = read_ratio_limits(options.min_speedup, options.max_slowdown)
    workload = Workload(
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens,
        batch=options.batch,
        depth=options.depth,
    )
    plan = Plan(
        samples=options.samples, time_budget_s=options.time_budget, timeout_s=options.timeout
    )
    instruments = Instruments(detect())
    folder = Path(tempfile.mkdtemp(prefix="pytest-llmperf-compare-"))
    pool = WorkerPool(folder, instruments)
    with cpu_lease(on_wait=lambda: say("waits for another measurement on this machine")):
        try:
            a = _prepare(options.a, options, None, say)
            text = options.a.partition(",")[0] + options.b if options.b[:1] == "," else options.b
            text = text.rstrip(",")
            arms: dict[Arm, Loading] = {
                "a": a,
                "b": _prepare(text, options, options.arm_python, say),
            }

            def measure_arm(arm: Arm, pair: int) -> Measurement:
                what = f"pair {pair + 1}, {arm.upper()}"
                model = pool.fresh(arms[arm], pair, lambda phase: say(f"{what}: {phase}"))
                return measure(
                    model, workload, plan, instruments, progress=lambda at: say(f"{what}: {at}")
                )

            labels: dict[Arm, str] = {
                "a": options.a,
                "b": f"{text} in {options.arm_python}" if options.arm_python else text,
            }
            found = compare(
                measure_arm, "compare", labels, options.metric, limits, options.max_memory_ratio
            )
        finally:
            try:
                pool.close()
            finally:
                instruments.close()
    for trouble in pool.bad_exits:
        print(f"note: {trouble}", file=sys.stderr)
    if not pool.bad_exits:  # else the log that was just named has to stay
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _prepare(
    text: str, options: argparse.Namespace, python: str | None, say: Callable[[str], None]
) -> Loading:
    """``MODEL,name=value,…``. Raises ValueError for what does not read so."""
    source, *words = text.split(",")
    try:
        given = dict(read_option(word) for word in words if word)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{text!r}: {error}") from None
    quantization = given.pop("quantization", None)
    backend = given.pop("backend", None) or options.backend or default_backend(source)
    if python is not None and not Path(python).is_file():
        raise ValueError(f"--arm-python={python}: there is no such file")
    adapter, chosen = choose(str(backend), given, python)
    loading = prepare(
        ModelSpec(source, None if quantization is None else str(quantization)),
        adapter,
        chosen,
        timeout_s=options.timeout,
        progress=lambda stage, part: say(f"{stage} {part:.0%}"),
    )
    return replace(loading, python=python)


def _page(compared: Comparison) -> str:
    lines = [comparison_line(compared)]
    for arm, seen in (("A", compared.a), ("B", compared.b)):
        versions = ", ".join(sorted({f"{each.backend} {each.version}" for each in seen}))
        lines.append(f"  {arm}: {versions}")
    lines += [f"  {check.text}: {check.verdict}{_why(check.reason)}" for check in compared.checks]
    notes = dict.fromkeys(note for each in (*compared.a, *compared.b) for note in each.findings)
    lines += [f"  note: {note}" for note in notes]
    return "\n".join(lines)


def _why(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _complain(error: Exception, exit_code: int) -> int:
    print(f"pytest-llmperf compare: {error}", file=sys.stderr)
    return exit_code
