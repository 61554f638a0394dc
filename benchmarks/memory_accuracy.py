"""Is a peak of memory as exact as it says, and what would sampling have seen?

    python benchmarks/memory_accuracy.py [--repeats N] [--quick] [--json FILE]

Programs take known amounts. The truth is what the program held before, by the kernel's walk
through its page tables (smaps_rollup, not the counters that a mark is made of), and the bytes that
it then touches; of a tree, private pages added up and the shared ones of one member. "10 ms" and
"50 ms" tell what share of the growth another process saw that looked so often.

Targets. One process: off by no more than 1 MiB, 0.5 % or the slack that the figure prints,
whichever is largest. A tree: the truth lies inside the bound.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from memory_programs import PROGRAMS, Program
from paired import Benchmark, Target, option_parser

from pytest_llmperf import child
from pytest_llmperf.measure.byte_figure import ByteFigure, figure_of, slack_here_bytes
from pytest_llmperf.worker.memory_sampler import Sampler
from pytest_llmperf.worker.peaks import members, read_tree, reset_peaks

MIB = 1 << 20
SIZES_MIB = (1, 16, 128, 1024, 2048)
TREE_SIZES_MIB = (1, 64, 1024)
QUICK_MIB = (1, 64)
INTERVALS_S = (0.010, 0.050)
PROGRAM_FILE = Path(__file__).with_name("memory_programs.py")


@dataclass(frozen=True)
class Trial:
    """One run of one program."""

    truth_bytes: int
    figure: ByteFigure
    seen: list[float]
    """Share of the growth that sampling saw, by interval."""

    @property
    def error_bytes(self) -> int:
        """How far the figure is off; of a bound, how far the truth is outside."""
        if self.figure.kind == "exact":
            return self.figure.bytes - self.truth_bytes
        low = self.figure.low_bytes or 0
        return min(0, self.figure.bytes - self.truth_bytes) or max(0, low - self.truth_bytes)

    @property
    def allowed_bytes(self) -> float:
        """What the target allows."""
        if self.figure.kind != "exact":
            return 0
        return max(MIB, 0.005 * self.truth_bytes, self.figure.slack_bytes or 0)


class Running:
    """A program that is ready, and acts when told."""

    def __init__(self, name: str, size: int, path: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, from_write = os.pipe()
        arguments = [name, str(size), str(path), str(to_read), str(from_write)]
        self._child = child.start(
            [sys.executable, str(PROGRAM_FILE), *arguments],
            descriptors=(to_read, from_write),
            stderr=sys.stderr.fileno(),
        )
        os.close(to_read)
        os.close(from_write)
        self.pid = self._child.pid
        self._hear()

    def act(self) -> None:
        """Let it do what it does."""
        os.write(self._to, b"g")
        self._hear()

    def end(self) -> None:
        """End it and its children."""
        self._child.end()
        os.close(self._to)
        os.close(self._from)

    def _hear(self) -> None:
        if not os.read(self._from, 1):
            raise SystemExit(f"{PROGRAM_FILE.name} ended early")


@contextlib.contextmanager
def file_of(size: int) -> Iterator[Path]:
    """A file of ``size`` bytes; its pages get into the page cache when they are read."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        yield Path(file.name)


def held_bytes(pid: int) -> int:
    """What a process and its children hold together, by a walk through their page tables."""
    private = shared = 0
    for member in members(pid):
        sizes: dict[str, int] = {}
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, _ = line.split()
            sizes[name] = int(value) * 1024
        private += sizes["Private_Clean:"] + sizes["Private_Dirty:"]
        shared = max(shared, sizes["Shared_Clean:"] + sizes["Shared_Dirty:"])
    return private + shared


def run(name: str, program: Program, size: int) -> Trial:
    """One program once, watched in all ways."""
    grows = program.grows_bytes(size)
    with file_of(size) as path:
        running = Running(name, size, path)
        samplers = [Sampler(running.pid, interval_s) for interval_s in INTERVALS_S]
        started = [sampler.so_far() for sampler in samplers]
        before = held_bytes(running.pid)
        if not reset_peaks(members(running.pid)):
            raise SystemExit("the kernel lets no new mark be started; nothing to measure here")
        running.act()
        tree = read_tree(running.pid, with_pss=True)
        time.sleep(2.5 * max(INTERVALS_S))  # what stays is seen by anyone
        finished = [sampler.finish() for sampler in samplers]
        running.end()
    figure = figure_of(tree, "VmHWM", slack_here_bytes(1))
    if figure is None:
        raise SystemExit(f"no figure: {tree.troubles}")
    seen = [
        (last.most_bytes - first.most_bytes) / grows if first and last else 0.0
        for first, last in zip(started, finished, strict=True)
    ]
    return Trial(truth_bytes=before + grows, figure=figure, seen=seen)


def report(benchmark: Benchmark, name: str, size: int, trials: list[Trial]) -> None:
    """One line of the table: the worst trial, and the median of what sampling saw."""
    worst = max(trials, key=lambda trial: abs(trial.error_bytes) - trial.allowed_bytes)
    figure, label = worst.figure, f"{name}, {size // MIB} MiB"
    seen = [statistics.median(column) for column in zip(*(t.seen for t in trials), strict=True)]
    error = f"{worst.error_bytes / MIB:+.3f}"
    told = f"{figure.bytes / MIB:.1f}"
    if not PROGRAMS[name].children:
        # Of one process, what calls itself a bound is as wrong as can be.
        off = abs(worst.error_bytes) / MIB if figure.kind == "exact" else math.inf
        benchmark.check(f"{label}: MiB off", off, Target(most=worst.allowed_bytes / MIB))
    else:
        error = "inside" if not worst.error_bytes else error
        told = f"{(figure.low_bytes or 0) / MIB:.1f}–{told}"
        benchmark.check(f"{label}: MiB outside", abs(worst.error_bytes) / MIB, Target(most=0))
    benchmark.row(
        label,
        f"{worst.truth_bytes / MIB:.1f}",
        told,
        error,
        f"{worst.allowed_bytes / MIB:.2f}" if figure.kind == "exact" else "–",
        *(f"{share:.0%}" for share in seen),
        program=name,
        size_bytes=size,
        kind=figure.kind,
        truth_bytes=[trial.truth_bytes for trial in trials],
        figure_bytes=[trial.figure.bytes for trial in trials],
        low_bytes=[trial.figure.low_bytes for trial in trials],
        error_bytes=[trial.error_bytes for trial in trials],
        allowed_bytes=worst.allowed_bytes,
        seen_by_sampling={
            f"{interval_s * 1e3:g} ms": [trial.seen[column] for trial in trials]
            for column, interval_s in enumerate(INTERVALS_S)
        },
    )


def main() -> int:
    """Print the table; 1 when a target is missed."""
    parser = option_parser(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each program (5, or 2 with --quick)")
    options = parser.parse_args()
    benchmark = Benchmark(__doc__ or "", options)
    repeats = options.repeats or (2 if benchmark.quick else 5)
    slack = slack_here_bytes(1) or 0
    benchmark.note("slack", f"slack of this kernel's counters: {slack / MIB:g} MiB per process")
    benchmark.note("repeats", f"the worst of {repeats} runs each; all sizes in MiB")
    benchmark.head(
        "program:27", "truth:8", "figure:16", "error:8", "allowed:8", "10 ms:6", "50 ms:7"
    )
    left_out = []
    for name, program in PROGRAMS.items():
        sizes = TREE_SIZES_MIB if program.children else SIZES_MIB
        for size in [mib * MIB for mib in (QUICK_MIB if benchmark.quick else sizes)]:
            if psutil.virtual_memory().available < 1.5 * program.grows_bytes(size):
                left_out.append(f"{name}, {size // MIB} MiB")
                continue
            trials = [run(name, program, size) for _ in range(repeats)]
            report(benchmark, name, size, trials)
    if left_out:
        benchmark.note("left_out", f"left out, too little memory: {'; '.join(left_out)}")
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
