"""Which variant of a model is the one to take? From a file of results."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_llmperf.cli.answer import NOTHING, Wrong, complain, print_json, say
from pytest_llmperf.cli.results import read_result
from pytest_llmperf.report.tradeoff import SPEED, TradeOff, find_tradeoffs, tradeoff_lines


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    told = "speed against memory against quality, of a file of results"
    parser = commands.add_parser("tradeoff", help=told, description=told)
    parser.add_argument("result", type=Path, help="what --llmperf-json wrote")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print every table; see :func:`pytest_llmperf.cli.main` for the exit codes."""
    try:
        tests = read_result(options.result).tests
        found = find_tradeoffs(tests)
        if not found:
            raise Wrong(
                f"{options.result} holds no two variants of one model that were measured alike and "
                "read the same text: measure(…, text='shipped') or against={…}",
                NOTHING,
            )
    except Wrong as error:
        complain(f"pytest-llmperf tradeoff: {error}")
        return error.exit_code
    if options.json:
        print_json([_facts(each) for each in found])
    else:
        say(*tradeoff_lines(tests))
    return 0


def _facts(told: TradeOff) -> dict[str, object]:
    """What the table shows, unrounded."""
    shown = (SPEED, told.memory, told.quality)
    variants = [
        {
            "name": name,
            "front": is_best,
            "metrics": {metric: seen.metrics[metric] for metric in shown},
        }
        for (name, seen), is_best in zip(told.variants.items(), told.on_front, strict=True)
    ]
    return {
        "of": told.head,
        "memory": told.memory,
        "quality": told.quality,
        "variants": variants,
    }
