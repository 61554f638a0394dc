"""Can this machine hold a gate? The same build, measured against itself again and again."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pytest_llmperf.cli.arguments import add_engine_options
from pytest_llmperf.cli.workbench import TROUBLES, Workbench, default_backend, give_up
from pytest_llmperf.gate.gatekeeper import Gatekeeper, looked_again, looks_wanted
from pytest_llmperf.gate.placebo import PlaceboSession, placebo
from pytest_llmperf.gate.recording import Act, record
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Measurement, Plan, Workload
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.report import words
from pytest_llmperf.report.placebo import SelftestReport, report_lines
from pytest_llmperf.worker.loading import Loading

QUICK_SESSIONS, LONG_SESSIONS = 12, 40
QUICK_MODELS = ("synthetic:llama-15m",)
LONG_MODELS = ("synthetic:llama-15m", "synthetic:llama-160m")
LEAST_SESSIONS, MOST_SESSIONS = 5, 1000
WORKLOAD = Workload(prompt_tokens=128, new_tokens=96)
"""As much as the context of the smallest model takes."""

CANNOT_HOLD = 1

_MODULE = "selftest"


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
    add_engine_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _sessions(text: str) -> int:
    if not text.isdecimal() or not LEAST_SESSIONS <= int(text) <= MOST_SESSIONS:
        raise argparse.ArgumentTypeError(
            f"must be a whole number between {LEAST_SESSIONS} and {MOST_SESSIONS}"
        )
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Measure and print: 0 the machine can hold a gate, 1 it cannot.

    What stops it, a Ctrl-C included, is told after what was measured so far; for the other exit
    codes see :func:`pytest_llmperf.cli.main`.
    """
    planned = options.sessions or (LONG_SESSIONS if options.long else QUICK_SESSIONS)
    stopped: BaseException | None = None
    trial = None
    try:
        with (
            Workbench("selftest", detect()) as bench,
            tempfile.TemporaryDirectory(prefix="pytest-llmperf-selftest-baselines-") as baselines,
        ):
            trial = Trial(bench, planned, Path(baselines))
            trial.measure(_loadings(options, bench))
    except (*TROUBLES, KeyboardInterrupt) as trouble:
        stopped = trouble
    if trial is not None and trial.sessions:
        report = trial.report()
        if options.json:
            print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
        else:
            print("\n".join(report_lines(report)), flush=True)
        if stopped is None:
            return 0 if report.placebo.holds else CANNOT_HOLD
    assert stopped is not None
    return give_up("selftest", stopped)


def _loadings(options: argparse.Namespace, bench: Workbench) -> dict[str, Loading]:
    """What is to be measured, by the models' short names.

    Raises ModelError, BackendError, EngineNotInstalled.
    """
    models = LONG_MODELS if options.long else QUICK_MODELS
    sources = (options.model,) if options.model else models
    found = {}
    for source in sources:
        backend = options.backend or default_backend(source)
        eight_bits = backend == "llama-cpp" and source.startswith("synthetic:")
        found[source.rpartition(":")[2].rpartition("/")[2]] = bench.prepare(
            ModelSpec(source, "Q8_0" if eight_bits else None),
            backend,
            dict(options.option),
            timeout_s=Plan().timeout_s,
        )
    return found


class Trial:
    """Sessions of one build, each judged by those before it, in baselines of their own."""

    def __init__(self, bench: Workbench, planned: int, baselines: Path) -> None:
        self.sessions: list[PlaceboSession] = []
        self._bench = bench
        self._planned = planned
        self._baselines = baselines
        self._first: dict[str, Measurement] = {}
        self._began_s = time.monotonic()

    def measure(self, loadings: Mapping[str, Loading]) -> None:
        """All sessions, one after another. Raises WorkerError, LeaseError, BaselineError."""
        while len(self.sessions) < self._planned:
            self.sessions.append(self._session(loadings))

    def report(self) -> SelftestReport:
        """What was measured so far; at least one session."""
        seen = next(iter(self._first.values()))
        return SelftestReport(
            hardware=self._bench.hardware,
            backend=seen.backend,
            version=seen.version,
            models=[words.model(each) for each in self._first.values()],
            workload=WORKLOAD,
            workers=self._bench.workers,
            wall_s=time.monotonic() - self._began_s,
            placebo=placebo(self.sessions, self._planned),
            sessions=self.sessions,
        )

    def _session(self, loadings: Mapping[str, Loading]) -> PlaceboSession:
        """One worker of each model, and more for a suspect, as a run with one test each."""
        gatekeeper = Gatekeeper(self._baselines, [f"{_MODULE}::{name}" for name in loadings])
        pairs, invalid = [], []
        for name, loading in loadings.items():
            measurement = self._fresh(name, loading)
            self._first.setdefault(name, measurement)
            if measurement.invalid:
                invalid.append(f"{name}: {measurement.invalid}")
            device = measurement.engine.device
            fingerprint = self._bench.hardware.fingerprint_of(device)
            suspects = gatekeeper.look(f"{_MODULE}::{name}", measurement, fingerprint, None)
            looks = looks_wanted(suspects, device)
            fresh = [
                self._fresh(f"{name}, second look {1 + i} of {looks}", loading)
                for i in range(looks)
            ]
            pairs += [each.result(measurement) for each in looked_again(suspects, fresh)]
        act = Act(
            session=f"{len(self.sessions):04d}", date=datetime.now(UTC), commit=None, by=_MODULE
        )
        record(self._baselines, pairs, act)
        return PlaceboSession(pairs=pairs, invalid=invalid)

    def _fresh(self, what: str, loading: Loading) -> Measurement:
        return self._bench.measure(
            loading,
            WORKLOAD,
            Plan(),
            invocation=self._bench.workers,
            what=f"session {len(self.sessions) + 1} of {self._planned}, {what}",
            name="1",
        )
