"""Which of two is faster here: models, quantizations, options, or versions of an engine?"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from pytest_llmperf.cli.answer import say, wrapped
from pytest_llmperf.cli.arguments import (
    add_plan,
    add_workload,
    plan_of,
    read_option,
    workload_of,
)
from pytest_llmperf.cli.workbench import TROUBLES, Workbench, give_up
from pytest_llmperf.comparing import compare, read_demands
from pytest_llmperf.gate.comparison import Arm
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.reading import SHIPPED, find_text
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.report.comparison import comparison_line
from pytest_llmperf.report.result import Comparison
from pytest_llmperf.worker.loading import Loading

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
    parser.add_argument(
        "--metric",
        default="decode_tps",
        choices=sorted(BY_NAME),
        metavar="NAME",
        help="whose ratio is told (decode_tps)",
    )
    add_workload(parser, "prompt_tokens", "new_tokens", "batch", "depth")
    add_plan(parser)
    parser.add_argument("--min-speedup", type=float, metavar="X", help="A is X times as fast")
    parser.add_argument("--max-slowdown", metavar="SHARE", help="A is at most so much slower: 5%%")
    parser.add_argument(
        "--max-memory-ratio", type=float, metavar="X", help="A takes at most X of B's memory"
    )
    parser.add_argument(
        "--max-perplexity-increase",
        metavar="SHARE",
        help="A's perplexity is so much above B's: 2%%",
    )
    parser.add_argument(
        "--text", metavar="FILE", help=f"what both read, to tell perplexity ({SHIPPED})"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare and print; see :func:`pytest_llmperf.cli.main` for the exit codes."""
    try:
        compared = _compare(options)
    except TROUBLES as error:
        return give_up("compare", error)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(compared), indent=1).decode())
    else:
        say(*_page(compared))
    broken = compared.invalid is not None or compared.verdict is Verdict.OVER_BUDGET
    return _BROKEN if broken else 0


def _compare(options: argparse.Namespace) -> Comparison:
    demands = read_demands(
        options.min_speedup,
        options.max_slowdown,
        options.max_memory_ratio,
        options.max_perplexity_increase,
    )
    read = options.text
    if read is None and demands.max_perplexity_increase is not None:
        read = SHIPPED
    if read is not None:
        find_text(read)
    workload, plan = workload_of(options), plan_of(options)
    text = options.a.partition(",")[0] + options.b if options.b[:1] == "," else options.b
    text = text.rstrip(",")
    python = options.arm_python
    labels: dict[Arm, str] = {"a": options.a, "b": f"{text} in {python}" if python else text}
    with Workbench("compare", detect()) as bench:
        arms: dict[Arm, Loading] = {
            "a": _prepare(bench, options.a, options, None),
            "b": _prepare(bench, text, options, python),
        }

        def measure_arm(arm: Arm, pair: int) -> Measurement:
            what = f"pair {pair + 1}, {arm.upper()}"
            return bench.measure(
                arms[arm],
                workload,
                plan,
                invocation=pair,
                what=what,
                text=read if pair == 0 else None,
            )

        return compare(measure_arm, "compare", labels, options.metric, demands)


def _prepare(
    bench: Workbench, text: str, options: argparse.Namespace, python: str | None
) -> Loading:
    """``MODEL,name=value,…``. Raises ValueError for what does not read so."""
    source, *words = text.split(",")
    try:
        given = dict(read_option(word) for word in words if word)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if python is not None and not Path(python).is_file():
        raise ValueError(f"--arm-python={python}: there is no such file")
    quantization, backend = given.pop("quantization", None), given.pop("backend", None)
    return bench.prepare(
        ModelSpec(source, None if quantization is None else str(quantization)),
        options.backend if backend is None else str(backend),
        given,
        timeout_s=options.timeout,
        python=python,
    )


def _page(compared: Comparison) -> list[str]:
    lines = []
    for arm, seen in (("A", compared.a), ("B", compared.b)):
        versions = ", ".join(sorted({f"{each.backend} {each.version}" for each in seen}))
        lines.append(f"{arm}: {versions}")
    lines += [f"{check.text}: {check.verdict}{_why(check.reason)}" for check in compared.checks]
    notes = dict.fromkeys(note for each in (*compared.a, *compared.b) for note in each.findings)
    lines += [f"note: {note}" for note in notes]
    return [comparison_line(compared), *(part for line in lines for part in wrapped(line, "  "))]


def _why(reason: str) -> str:
    return f" ({reason})" if reason else ""
