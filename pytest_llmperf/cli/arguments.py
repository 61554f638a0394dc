"""What do the commands that measure take, and how is it read?"""

from __future__ import annotations

import argparse

import msgspec

from pytest_llmperf.measure import Plan, Workload

_WORKLOAD = {
    "prompt_tokens": "tokens of each prompt",
    "new_tokens": "tokens to generate",
    "batch": "sequences in step",
    "depth": "tokens that each holds before the clock starts",
    "seed": "of the prompts",
}


def add_workload(parser: argparse.ArgumentParser, *names: str) -> None:
    """Declare ``--prompt-tokens`` and whatever else of a workload can be chosen."""
    defaults = Workload()
    for name in names:
        value = getattr(defaults, name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(
            flag, type=int, default=value, metavar="N", help=f"{_WORKLOAD[name]} ({value})"
        )


def workload_of(options: argparse.Namespace) -> Workload:
    """Raises ValueError for a workload that cannot be."""
    names = Workload.__struct_fields__
    return Workload(**{name: getattr(options, name) for name in names if hasattr(options, name)})


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Declare how much is measured."""
    plan = Plan()
    for flag, read, usual, metavar, words in (
        ("--samples", read_samples, plan.samples, "N", "requests that are timed"),
        ("--time-budget", read_seconds, plan.time_budget_s, "S", "seconds for all of them"),
        ("--timeout", read_seconds, plan.timeout_s, "S", "seconds for one load or one request"),
    ):
        told = f"{words} ({usual:g})"
        parser.add_argument(flag, type=read, default=usual, metavar=metavar, help=told)


def plan_of(options: argparse.Namespace) -> Plan:
    """What :func:`add_plan` declared."""
    return Plan(
        samples=options.samples, time_budget_s=options.time_budget, timeout_s=options.timeout
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``-o``."""
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        type=read_option,
        metavar="NAME=VALUE",
        help="an option of the engine, such as n_threads=4; repeatable",
    )


def read_samples(text: str) -> int:
    """How many samples a measurement takes. Raises ArgumentTypeError."""
    if not text.isdecimal() or not 5 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError("must be a whole number between 5 and 1000")
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
