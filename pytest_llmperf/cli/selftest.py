"""Can this machine hold a gate? The same build, measured against itself again and again."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pytest_llmperf.backends.registry import BackendError
from pytest_llmperf.child import Undead
from pytest_llmperf.cli.run import (
    NOTHING_MEASURED,
    TOOL_FAILED,
    USAGE,
    default_backend,
    read_option,
)
from pytest_llmperf.gate.baseline import BaselineError
from pytest_llmperf.gate.gatekeeper import Gatekeeper, Suspect
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.placebo import (
    PairFigures,
    Placebo,
    PlaceboSession,
    placebo,
    rounded_up,
)
from pytest_llmperf.gate.recording import Act, record
from pytest_llmperf.gate.verdict import SECOND_LOOKS_CPU, SECOND_LOOKS_GPU, Verdict
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.lease import LeaseError, cpu_lease
from pytest_llmperf.measure import Instruments, Measurement, Plan, Workload, measure
from pytest_llmperf.models import ModelError, ModelSpec, ModelUnavailable
from pytest_llmperf.report import words
from pytest_llmperf.worker.errors import EngineNotInstalled, EngineRefusal, WorkerError
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.pool import WorkerPool

QUICK_SESSIONS, LONG_SESSIONS = 12, 40
QUICK_MODELS = ("synthetic:llama-15m",)
LONG_MODELS = ("synthetic:llama-15m", "synthetic:llama-160m")
LEAST_SESSIONS, MOST_SESSIONS = 5, 1000
WORKLOAD = Workload(prompt_tokens=128, new_tokens=96)
"""As much as the context of the smallest model takes."""

CANNOT_HOLD = 1

_MODULE = "selftest"
_WIDTH = 80
_LABEL, _COLUMN = 36, 11
_CLEAR = "\r\x1b[2K"
_EVERY_S = 10.0
"""Without a terminal, a line of progress is printed at most this often."""

Say = Callable[[str], None]


class SelftestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    hardware: Hardware
    backend: str
    version: str
    models: list[str]
    workload: Workload
    workers: int
    """How many were started, those of second looks included."""
    wall_s: float
    placebo: Placebo
    sessions: list[PlaceboSession]


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "selftest", help="measure one build against itself: can this machine hold a 5 %% gate?"
    )
    parser.add_argument(
        "--long",
        action="store_true",
        help=f"{LONG_SESSIONS} sessions of two models instead of {QUICK_SESSIONS} of one",
    )
    parser.add_argument("--backend", help="llama-cpp, transformers (default: what is installed)")
    parser.add_argument("--model", help="instead of the small synthetic ones")
    parser.add_argument("--sessions", type=_sessions, metavar="N", help="how many to measure")
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


def _sessions(text: str) -> int:
    if not text.isdecimal() or not LEAST_SESSIONS <= int(text) <= MOST_SESSIONS:
        raise argparse.ArgumentTypeError(
            f"must be a whole number within {LEAST_SESSIONS} and {MOST_SESSIONS}"
        )
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Measure and print: 0 the machine can hold a gate, 1 it cannot.

    What stops it, a Ctrl-C included, is told after what was measured so far; for the other exit
    codes see :func:`pytest_llmperf.cli.main`.
    """
    planned = options.sessions or (LONG_SESSIONS if options.long else QUICK_SESSIONS)
    trial = Trial(detect(), planned, Progress())
    stopped: BaseException | None = None
    try:
        trial.measure(_loadings(options, trial.say))
    except KeyboardInterrupt as interruption:
        stopped = interruption
    except (
        *(ModelError, BackendError, WorkerError),
        *(LeaseError, Undead, BaselineError),
    ) as error:
        stopped = error
    finally:
        trial.close(keep_logs=isinstance(stopped, WorkerError))
    if trial.sessions:
        report = trial.report()
        if options.json:
            print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
        else:
            print("\n".join(report_lines(report)), flush=True)
        if stopped is None:
            return 0 if report.placebo.holds else CANNOT_HOLD
    assert stopped is not None
    print(f"pytest-llmperf selftest: {str(stopped) or 'interrupted'}", file=sys.stderr)
    return _exit_code(stopped)


def _exit_code(stopped: BaseException) -> int:
    if isinstance(stopped, (ModelUnavailable, EngineNotInstalled)):
        return NOTHING_MEASURED
    is_request = isinstance(stopped, (BackendError, EngineRefusal, ModelError))
    return USAGE if is_request else TOOL_FAILED


def _loadings(options: argparse.Namespace, say: Say) -> dict[str, Loading]:
    """What is to be measured, by the models' short names.

    Raises ModelError, BackendError, EngineNotInstalled.
    """
    models = LONG_MODELS if options.long else QUICK_MODELS
    sources = (options.model,) if options.model else models
    found = {}
    for source in sources:
        backend, chosen = choose(options.backend or default_backend(source), dict(options.option))
        eight_bits = backend.name == "llama-cpp" and source.startswith("synthetic:")
        loading = prepare(
            ModelSpec(source, "Q8_0" if eight_bits else None),
            backend,
            chosen,
            timeout_s=Plan().timeout_s,
            progress=lambda stage, part: say(f"{stage} {part:.0%}"),
        )
        found[source.rpartition(":")[2].rpartition("/")[2]] = loading
    return found


class Progress:
    """Rewrites one line on a terminal; elsewhere prints a line now and then."""

    def __init__(self) -> None:
        self._printed_s = time.monotonic()

    def __call__(self, text: str) -> None:
        """Show what is being done; nothing: take the line away."""
        if sys.stderr.isatty():
            sys.stderr.write(f"{_CLEAR}{text[: _WIDTH - 1]}")
            sys.stderr.flush()
        elif text and time.monotonic() - self._printed_s >= _EVERY_S:
            self._printed_s = time.monotonic()
            print(f"selftest: {text}", file=sys.stderr, flush=True)


class Trial:
    """Sessions of one build, each judged by those before it, in baselines of their own."""

    def __init__(self, hardware: Hardware, planned: int, say: Say) -> None:
        self.say = say
        self.sessions: list[PlaceboSession] = []
        self.planned = planned
        self._hardware = hardware
        self._folder = Path(tempfile.mkdtemp(prefix="pytest-llmperf-selftest-"))
        self._instruments = Instruments(hardware)
        self._pool = WorkerPool(self._folder, self._instruments)
        self._first: dict[str, Measurement] = {}
        self._workers = 0
        self._began_s = time.monotonic()

    def measure(self, loadings: Mapping[str, Loading]) -> None:
        """All sessions, one after another. Raises WorkerError, LeaseError, BaselineError."""
        while len(self.sessions) < self.planned:
            self.sessions.append(self._session(loadings))

    def close(self, *, keep_logs: bool) -> None:
        """End what watches; logs that were named to the user stay."""
        self._instruments.close()
        self.say("")
        for trouble in self._pool.bad_exits:
            print(f"note: {trouble}", file=sys.stderr)
        if not self._pool.bad_exits and not keep_logs:
            shutil.rmtree(self._folder, ignore_errors=True)

    def report(self) -> SelftestReport:
        """What was measured so far; at least one session."""
        seen = next(iter(self._first.values()))
        return SelftestReport(
            hardware=self._hardware,
            backend=seen.backend,
            version=seen.version,
            models=[words.model(each) for each in self._first.values()],
            workload=WORKLOAD,
            workers=self._workers,
            wall_s=time.monotonic() - self._began_s,
            placebo=placebo(self.sessions, self.planned),
            sessions=self.sessions,
        )

    def _session(self, loadings: Mapping[str, Loading]) -> PlaceboSession:
        """One worker of each model, and more for a suspect, as a run with one test each."""
        root = self._folder / "baselines"
        gatekeeper = Gatekeeper(root, [f"{_MODULE}::{name}" for name in loadings])
        pairs, invalid = [], []
        for name, loading in loadings.items():
            measurement = self._fresh(name, loading)
            self._first.setdefault(name, measurement)
            if measurement.invalid:
                invalid.append(f"{name}: {measurement.invalid}")
            suspects = self._judged(gatekeeper, name, loading, measurement)
            pairs += [each.result(measurement) for each in suspects]
        act = Act(
            session=f"{len(self.sessions):04d}", date=datetime.now(UTC), commit=None, by=_MODULE
        )
        record(root, pairs, act)
        return PlaceboSession(pairs=pairs, invalid=invalid)

    def _judged(
        self, gatekeeper: Gatekeeper, name: str, loading: Loading, measurement: Measurement
    ) -> list[Suspect]:
        on_cpu = measurement.engine.device == "cpu"
        hardware = self._hardware
        fingerprint = hardware.cpu_fingerprint if on_cpu else hardware.fingerprint
        suspects = gatekeeper.look(f"{_MODULE}::{name}", measurement, fingerprint, None)
        doubted = [each for each in suspects if each.judgement.wants_second_look]
        if not doubted:
            return suspects
        looks = SECOND_LOOKS_CPU if on_cpu else SECOND_LOOKS_GPU
        looks = looks if any(not each.is_size for each in doubted) else 1
        fresh = [
            self._fresh(f"{name}, second look {1 + i} of {looks}", loading) for i in range(looks)
        ]
        return [
            each.looked_at(fresh) if each.judgement.wants_second_look else each for each in suspects
        ]

    def _fresh(self, what: str, loading: Loading) -> Measurement:
        """One invocation. Others may measure on this machine before the next one."""
        told = f"session {len(self.sessions) + 1} of {self.planned}, {what}: "
        waits = "waits for another measurement on this machine"
        with cpu_lease(on_wait=lambda: self.say(told + waits)):
            try:
                self.say(f"{told}load")
                model = self._pool.fresh(
                    loading, self._workers, lambda phase: self.say(told + phase)
                )
                self._workers += 1
                return measure(
                    model,
                    WORKLOAD,
                    Plan(),
                    self._instruments,
                    name="1",
                    progress=lambda sample: self.say(told + sample),
                )
            finally:
                self._pool.close()


def report_lines(report: SelftestReport) -> list[str]:
    """Who was measured, a column for each metric, and the answer; 80 columns wide."""
    found = report.placebo
    asked = report.workload
    tokens = f"{asked.prompt_tokens}+{asked.new_tokens} tokens"
    who = f"{report.backend} {report.version} · {', '.join(report.models)} · {tokens}"
    paragraphs = [
        who,
        words.machine(report.hardware),
        f"{found.sessions} sessions with {report.workers} workers in {report.wall_s:.0f} s",
        "",
        *_table(found.pairs),
        "",
        _false_alarms(found),
        *(f"INVALID: {reason}" for reason in found.invalid),
        *(f"disturbed: {each}" for each in found.always),
        *(f"disturbed: {each.words}, {each.sessions} ×" for each in found.disturbances),
        "",
        found.answer,
        found.rule,
    ]
    return [line for each in paragraphs for line in _folded(each)]


def _false_alarms(found: Placebo) -> str:
    return (
        f"false alarms: {found.red} of {found.judged} judged sessions turned red; the true rate "
        f"lies between {found.red_low * 100:.0f} % and {found.red_high * 100:.0f} % (Wilson, 95 %)"
    )


def _folded(paragraph: str) -> list[str]:
    if len(paragraph) <= _WIDTH:
        return [paragraph]
    return textwrap.wrap(paragraph, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _table(pairs: list[PairFigures]) -> Iterator[str]:
    if not pairs:
        return
    if len({each.model for each in pairs}) > 1:
        yield _row("", [each.model[: _COLUMN - 1] for each in pairs])
    yield _row("", [BY_NAME[each.metric].label for each in pairs])
    yield _row("sessions", [str(each.sessions) for each in pairs])
    yield _row("median, tok/s", [words.number(each.value) for each in pairs])
    yield _row("CV between sessions", [_share(each.session_cv) for each in pairs])
    yield _row("  its interval of 95 %, %", [_interval(each) for each in pairs])
    yield _row("  as the gate reckons (σ)", [_share(each.sigma) for each in pairs])
    yield _row("spread within a worker", [_share(each.spread) for each in pairs])
    yield _row("CV of the probe's repeats", [_share(each.probe_cv) for each in pairs])
    yield _row("  of the probe between sessions", [_share(each.probe_session_cv) for each in pairs])
    yield _row("  its weight β", [f"{each.probe_weight:.2f}" for each in pairs])
    yield _row("sessions with a second look", [str(each.second_looks) for each in pairs])
    for verdict in Verdict:
        if any(verdict in each.verdicts for each in pairs):
            yield _row(f"  {verdict}", [str(each.verdicts.get(verdict, 0)) for each in pairs])
    yield _row("smallest loss found (MDE) now", [_loss(each.mde) for each in pairs])
    yield _row("  with 20 sessions like these", [_loss(each.mde_full) for each in pairs])


def _row(label: str, cells: list[str]) -> str:
    return f"{label:<{_LABEL}}{''.join(f'{cell:>{_COLUMN}}' for cell in cells)}".rstrip()


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %"


def _loss(value: float | None) -> str:
    return "–" if value is None else rounded_up(value)


def _interval(pair: PairFigures) -> str:
    if pair.session_cv_low is None or pair.session_cv_high is None:
        return "–"
    return f"{pair.session_cv_low * 100:.1f}–{pair.session_cv_high * 100:.1f}"
