"""What is this machine, which engines work on it, and what mends those that do not?"""

from __future__ import annotations

import argparse
import platform
import re
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from pytest_llmperf.backends import (
    Backend,
    BackendError,
    backend_names,
    find_backend,
    installed_version,
)
from pytest_llmperf.cli import job_started
from pytest_llmperf.cli.answer import USAGE, complain
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Accelerator, Hardware
from pytest_llmperf.measure import Workload
from pytest_llmperf.models import ModelError, ModelSpec, ModelUnavailable
from pytest_llmperf.report import words
from pytest_llmperf.worker.errors import (
    EngineNotInstalled,
    EngineRefusal,
    WorkerError,
    known_remedy,
)
from pytest_llmperf.worker.interpreters import read_interpreters
from pytest_llmperf.worker.loading import choose, prepare
from pytest_llmperf.worker.messages import Generate, Generated
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool

MODEL = "synthetic:llama-15m"
WORKLOAD = Workload(prompt_tokens=16, new_tokens=8)
STEP = Workload(prompt_tokens=16, new_tokens=1)
"""For an engine that trains: a step makes one token, and it refuses more."""
TIMEOUT_S = 300.0
TOOL_FAILED = 4

_CRASH = re.compile(r"killed by (SIG[A-Z]+)")
_TO_THE_REMEDY = re.compile(r"; |(?<=is not installed): |: (?=pip install )")
"""What stands in an EngineMissing between what is missing and the line that mends it."""


class BackendHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one backend when a tiny model was run on it."""

    name: str
    version: str | None
    """Of the engine's package; None: not installed, or not told by another Python."""
    status: Literal["works", "missing", "broken"]
    detail: str
    remedy: str | None = None
    """The line that installs or mends it."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Everything doctor finds; what ``--json`` prints."""

    python: str
    hardware: Hardware
    backends: list[BackendHealth]


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "doctor", help="this machine, and for each backend: installed, works, or how to mend it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="the Python, of another environment, that runs a backend; repeatable",
    )
    parser.add_argument(
        "backends", nargs="*", metavar="BACKEND", help="look at these only (default: all)"
    )
    parser.add_argument(
        "--job-started",
        action="store_true",
        help="instead: is this runner fit for a job? what earlier ones left, the GPU driver, the "
        "disk, the clock; 75: try elsewhere",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the diagnosis; 4 when a backend that is installed does not work."""
    if options.job_started:
        if options.backends or options.python:
            complain("--job-started looks at the machine alone: name no backend, and no --python")
            return USAGE
        return job_started.run(as_json=options.json)
    unknown = [name for name in options.backends if name not in backend_names()]
    if unknown:
        known = ", ".join(backend_names())
        complain(f"unknown backend {unknown[0]!r}; known: {known}")
        return 2
    names = options.backends or backend_names()
    try:
        pythons = _pythons(options.python, names)
    except ValueError as error:
        complain(f"--python: {error}")
        return 2
    hardware = detect()
    if not options.json:
        print("\n".join(machine_lines(hardware)), flush=True)
        print("backends")
    healths = []
    for name in names:
        health = examine(find_backend(name), pythons.get(name))
        healths.append(health)
        if not options.json:
            print("\n".join(backend_lines(health)), flush=True)
    if options.json:
        diagnosis = Diagnosis(python=platform.python_version(), hardware=hardware, backends=healths)
        print(msgspec.json.format(msgspec.json.encode(diagnosis)).decode())
    return TOOL_FAILED if any(health.status == "broken" for health in healths) else 0


def _pythons(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """By backend. Raises ValueError."""
    pythons = read_interpreters("\n".join(given)) if given else {}
    for name in pythons:
        if name not in names:
            raise ValueError(f"{name} is not looked at; name it among the backends, too")
    return pythons


def examine(backend: Backend, python: str | None = None) -> BackendHealth:
    """Really generate a few tokens with a tiny model in a worker; ``python``: None is ours."""
    version = installed_version(backend) if python is None else None
    if python is None and version is None:
        return _unwell(backend, None, "missing", "not installed", backend.install)
    try:
        told, detail = _generate(backend, python)
    except (ModelUnavailable, EngineNotInstalled) as error:
        what, remedy = parted(str(error), backend.install)
        return _unwell(backend, version, "missing", what, remedy)
    except (ModelError, BackendError, WorkerError) as error:
        cure = remedy_for(backend.name, str(error))
        detail = str(error).replace(f"{cure}\n", "") if cure else str(error)
        return _unwell(backend, version, "broken", detail, cure)
    return BackendHealth(
        name=backend.name,
        version=told if version is None else version,
        status="works",
        detail=detail,
    )


def parted(message: str, install: str) -> tuple[str, str]:
    """What is missing, and what mends it: as the message says, else what installs the engine."""
    what, *remedy = _TO_THE_REMEDY.split(message, maxsplit=1)
    return what, remedy[0] if remedy else install


def _unwell(
    backend: Backend,
    version: str | None,
    status: Literal["missing", "broken"],
    detail: str,
    remedy: str | None,
) -> BackendHealth:
    return BackendHealth(
        name=backend.name, version=version, status=status, detail=detail, remedy=remedy
    )


def remedy_for(backend: str, report: str) -> str | None:
    """What is known to cure a crash, told by the signal that its report names."""
    crash = _CRASH.search(report)
    if crash is None or crash[1] not in signal.Signals.__members__:
        return None
    return known_remedy(backend, -signal.Signals[crash[1]])


def _generate(backend: Backend, python: str | None) -> tuple[str, str]:
    """The engine's version as it says itself, and what it was built with.

    Raises ModelError, BackendError, WorkerError.
    """
    _, options = choose(backend.name, {}, python)
    loading = prepare(ModelSpec(MODEL), backend, options, timeout_s=TIMEOUT_S, python=python)
    with tempfile.TemporaryDirectory(prefix="pytest-llmperf-doctor-") as folder:
        pool = WorkerPool(Path(folder))
        try:
            model = pool.load(loading)
            did = _try(model)
        finally:
            pool.close()
    build = f" ({model.engine.build})" if model.engine.build else ""
    return model.version, f"{did}{build}"


def _try(model: LoadedModel) -> str:
    """What the model does when it is asked. Raises WorkerError."""
    try:
        _ask(model, WORKLOAD)
    except EngineRefusal:
        _ask(model, STEP)
        return "takes a step"
    return "generates"


def _ask(model: LoadedModel, workload: Workload) -> None:
    request = workload.request(0, model.engine.vocab_size)
    answer = model.worker.ask(Generate(request=request), TIMEOUT_S)
    if not isinstance(answer, Generated) or answer.count != workload.new_tokens:
        raise WorkerError(f"asked for {workload.new_tokens} tokens, got {answer!r}")


def machine_lines(hardware: Hardware) -> list[str]:
    """The machine in a few lines."""
    cpu, memory = hardware.cpu, hardware.memory
    quota = "" if cpu.cpu_quota is None else f", quota {cpu.cpu_quota:g}"
    caches = ", ".join(
        f"{level} {words.size(size)}"
        for level, size in (
            ("L1d", cpu.l1d_cache_bytes),
            ("L2", cpu.l2_cache_bytes),
            ("L3", cpu.l3_cache_bytes),
        )
        if size is not None
    )
    limit = memory.cgroup_limit_bytes
    lines = [
        _row("system", f"{hardware.system}, {hardware.arch}, kernel {hardware.kernel}"),
        _row("cpu", f"{cpu.model_name or cpu.vendor}, {cpu.isa}"),
        _row("cores", f"{cpu.usable_cores} usable of {cpu.logical_cores}{quota}"),
        _row("caches", caches or "unknown"),
        _row(
            "memory",
            f"{memory.total_bytes / 2**30:.1f} GiB, {memory.usable_bytes / 2**30:.1f} usable"
            + ("" if limit is None else f", limit {limit / 2**30:.1f}"),
        ),
        _row("device", hardware.device or "no known board"),
    ]
    lines += [_row("gpu", _gpu(each)) for each in hardware.accelerators] or [_row("gpu", "none")]
    lines.append(_row("fingerprint", hardware.fingerprint))
    lines += [_row("trouble", finding) for finding in hardware.findings]
    return lines


def _gpu(gpu: Accelerator) -> str:
    facts = [f"{gpu.vendor} {gpu.name}"]
    facts.append(
        f"{gpu.memory_bytes / 2**30:.1f} GiB" if gpu.memory_bytes else "shares RAM or unknown size"
    )
    for label, value in (
        ("compute", gpu.compute_capability),
        ("MIG", gpu.mig),
        ("driver", gpu.driver),
        ("", gpu.uuid),
    ):
        if value:
            facts.append(f"{label} {value}".strip())
    return ", ".join(facts) + ("" if gpu.runs_models else " (display only)")


def backend_lines(health: BackendHealth) -> list[str]:
    """One backend: a line, and what to do under it."""
    first, *more = health.detail.splitlines() or [""]
    lines = [f"  {health.name:<13} {health.version or '–':<9} {health.status}: {first}"]
    lines += [f"      {line}" for line in more]
    if health.remedy:
        lines += [f"      → {line}" for line in health.remedy.splitlines()]
    return lines


def _row(name: str, text: str) -> str:
    return f"{name:<12} {text}"
