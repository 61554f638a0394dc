"""What of a model fits here, or there, and how fast would it be? Nothing is loaded."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from pytest_llmperf.backends.llama_cpp import CacheType
from pytest_llmperf.backends.registry import BackendError
from pytest_llmperf.cli.answer import NOTHING, USAGE, complain, print_json, say, wrapped
from pytest_llmperf.models.errors import ModelError, ModelUnavailable

if TYPE_CHECKING:  # what decides is imported by the command itself: others need none of it
    from pytest_llmperf.fit.load import Load
    from pytest_llmperf.fit.plan import Planned
    from pytest_llmperf.fit.room import Limits, Room
    from pytest_llmperf.fit.subject import Subject
    from pytest_llmperf.fit.wanted import Term
    from pytest_llmperf.hardware.calibration import Calibration

_GB = 10**9
_CONTEXTS = (2048, 8192, 32768)
_MISSED = 1


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """What ``--json`` prints. Sizes in bytes, speeds in tokens/s of one sequence."""

    model: str
    origin: str
    backend: str
    room: Room
    rows: tuple[Planned, ...]
    budget: tuple[Term, ...] = ()
    picked: Planned | None = None


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    told = "what of a model fits, where, and how fast it would be, before loading"
    parser = commands.add_parser("plan", help=told, description=told)
    parser.add_argument(
        "model", help="a catalogue name, synthetic:NAME, a GGUF file, a config.json, hf:org/name"
    )
    parser.add_argument("--backend", default="llama-cpp", help="(llama-cpp)")
    parser.add_argument("--quantization", action="append", metavar="Q", help="repeatable")
    parser.add_argument(
        "--context", action="append", type=_tokens, metavar="N", help="in tokens; repeatable"
    )
    parser.add_argument("--sequences", type=_tokens, default=1, metavar="N", help="at once (1)")
    parser.add_argument(
        "--cache-type",
        default="f16",
        choices=get_args(CacheType),
        metavar="T",
        help="of llama-cpp's keys and values, such as q8_0 (f16)",
    )
    parser.add_argument(
        "--no-flash-attention", action="store_true", help="count the scores of attention"
    )
    parser.add_argument("--vram", action="append", type=_size, metavar="GIB", help="of each GPU")
    parser.add_argument("--ram", type=_size, metavar="GIB", help="main memory that is free")
    parser.add_argument("--bandwidth", type=_size, metavar="GB/S", help="of that memory, in 10⁹")
    parser.add_argument("--device", metavar="NAME", help="such as jetson-orin-nano, rtx-4060")
    parser.add_argument("--budget", metavar="TEXT", help="such as 'tps>=20, vram<=6': picks a row")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Plan and print; 1 if nothing meets the budget, else as of all commands."""
    try:
        return _run(options)
    except ModelUnavailable as error:
        complain(f"pytest-llmperf plan: {error}")
        return NOTHING
    except (ModelError, BackendError, ValueError) as error:
        complain(f"pytest-llmperf plan: {error}")
        return USAGE


def _run(options: argparse.Namespace) -> int:
    from pytest_llmperf.fit.plan import plan_rows
    from pytest_llmperf.fit.subject import find_engine, find_subject
    from pytest_llmperf.fit.wanted import pick, read_budget

    engine = find_engine(options.backend)
    if options.cache_type != "f16" and engine.name != "llama-cpp":
        raise ValueError(f"--cache-type is llama-cpp's: {engine.name} has no such choice.")
    budget = read_budget(options.budget) if options.budget is not None else ()
    subject = find_subject(options.model)
    sizes = subject.sizes(engine, tuple(options.quantization or ()))
    room = _room(options)
    rows = tuple(plan_rows(engine, sizes, _loads(subject, options), room))
    picked = pick(rows, budget) if budget else None
    report = PlanReport(
        model=subject.title,
        origin=subject.origin,
        backend=engine.name,
        room=room,
        rows=rows,
        budget=budget,
        picked=picked,
    )
    if options.json:
        print_json(report)
    else:
        _print(report)
    return _MISSED if budget and picked is None else 0


def _loads(subject: Subject, options: argparse.Namespace) -> list[Load]:
    """The asked contexts; without any, the usual ones as far as the model was made for them."""
    from pytest_llmperf.fit.planning import load_of

    longest = subject.max_context
    contexts = options.context or [each for each in _CONTEXTS if not longest or each <= longest]
    return [
        load_of(
            each,
            options.sequences,
            cache_type=options.cache_type,
            flash_attention=not options.no_flash_attention,
        )
        for each in contexts or [longest]
    ]


def _room(options: argparse.Namespace) -> Room:
    """The stated memory, a device by name, or this machine. Raises ValueError."""
    from pytest_llmperf.fit.room import room_of, stated_room

    stated = bool(options.vram or options.ram)
    if options.device:
        if stated or options.bandwidth:
            raise ValueError("--device states memory and bandwidth: leave the others out.")
        return room_of(options.device)
    if not stated:
        if options.bandwidth:
            raise ValueError("--bandwidth is that of stated memory: give --vram or --ram too.")
        return _here()
    bandwidth = options.bandwidth * _GB if options.bandwidth else None
    return stated_room(options.ram, options.vram or (), bandwidth_bytes_per_s=bandwidth)


def _here() -> Room:
    """Of the machine that runs this, its memory read and probed now."""
    from pytest_llmperf.cli.progress import Progress
    from pytest_llmperf.fit.room import UNKNOWN, room_here
    from pytest_llmperf.hardware.calibration import calibrate_cpu, calibrate_cuda
    from pytest_llmperf.hardware.detect import detect
    from pytest_llmperf.hardware.lease import cpu_lease

    hardware, progress = detect(), Progress("plan")
    with cpu_lease(on_wait=lambda: progress("waits for another measurement on this machine")):
        progress("probes the memory")
        cpu = calibrate_cpu(hardware.cpu, hardware.memory)
        gpus = calibrate_cuda() if hardware.gpus else ()
    progress("")
    return room_here(
        hardware,
        _limits(cpu),
        _limits(gpus if isinstance(gpus, str) else gpus[0]) if gpus else UNKNOWN,
    )


def _limits(found: Calibration | str) -> Limits:
    """What a probe found; why it found nothing is said."""
    from pytest_llmperf.fit.room import UNKNOWN, Limits

    if isinstance(found, str):
        complain(f"note: {found}")
        return UNKNOWN
    return Limits(bandwidth=found.bandwidth_best, flops=found.flops_best)


def _print(report: PlanReport) -> None:
    from pytest_llmperf.report.plan import budget_line, plan_lines, reason_lines, room_line

    say(f"{report.model} with {report.backend}", room_line(report.room), "")
    say(*plan_lines(report.rows))
    notes = [
        *reason_lines(report.rows),
        *dict.fromkeys(n for row in report.rows for n in row.notes),
    ]
    for note in notes:
        say(*wrapped(note))
    if report.budget:
        say(*wrapped(budget_line(report.budget, report.picked, report.rows)))


def _tokens(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000_000:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


def _size(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("must be a number greater than 0")
    return value
