"""Does a machine with several GPUs measure on all of them at once, and on each only one thing?

    python benchmarks/leases.py [--quick] [--json FILE] [--repeat 100]

Four scripted GPUs and pytest with ``-n 4``: two tests for each GPU, whose engine sleeps, so that it
holds on two cores. "share" is the longest time for which one GPU was computed on, by the engines'
own clocks; "wall" is all of the pytest process, its start included; "ratio" is wall ÷ share. Other
plugins than ours and pytest-xdist are switched off: what they cost is theirs.

--repeat: instead, the same with short requests, again and again beside processes that use every
core; each time no two timed sections on one GPU may have a moment in common.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paired import Benchmark, Target, option_parser

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

from tests.scripted_gpus import overlaps, requests, scripted_gpus, sections  # noqa: E402 - the path comes first

CARDS = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
TESTS = 8
REQUESTS = 17
"""Of one test: two triples of warm-up, ten samples, one for the memory."""
WALL = Target(most=1.15)
ALONE = Target(most=0)
SHORT_S = 0.02

_SUITE = """
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_it(load_model, measure, number):
    script = dict(gpu_count=1, real_s={real_s}, journal={journal!r}, n_ctx=4096 + number)
    measure(load_model("fake:model", backend="fake", **script), prompt_tokens=8, new_tokens=8)
"""


def take(real_s: float) -> tuple[float, dict[str, list[tuple[float, float]]]]:
    """One run: its wall time, and by GPU the sections in which it was computed on."""
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        place = Path(folder)
        journal = place / "journal"
        (place / "pytest.ini").write_text("[pytest]\n")
        suite = _SUITE.format(tests=TESTS, real_s=real_s, journal=str(journal))
        (place / "test_it.py").write_text(suite)
        machine = scripted_gpus(place / "gpus", CARDS, os.environ.get("PYTHONPATH", ""))
        hidden = {"CUDA_VISIBLE_DEVICES", "CI", "BUILD_NUMBER"}
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        command = [sys.executable, "-m", "pytest", "-q", "--llmperf", "--llmperf-history=off"]
        began = time.monotonic()
        done = subprocess.run(
            [*command, f"-n{len(CARDS)}", "--llmperf-time-budget=600", *_others_off()],
            cwd=place,
            env={**kept, **machine, "XDG_STATE_HOME": str(place / "state")},
            capture_output=True,
            check=False,
        )
        wall_s = time.monotonic() - began
        if done.returncode != 0:
            raise RuntimeError(f"pytest left with {done.returncode}:\n{done.stdout.decode()}")
        return wall_s, sections(requests(journal))


def _others_off() -> list[str]:
    installed = {each.name for each in importlib.metadata.entry_points(group="pytest11")}
    others = sorted(installed - {"llmperf", "xdist", "xdist.looponfail"})
    return [part for name in others for part in ("-p", f"no:{name}")]


def wall(benchmark: Benchmark) -> None:
    """The wall time beside the longest share of a GPU."""
    benchmark.head("seconds of a request:22", "share s:9", "wall s:9", "ratio:9", "target:8")
    real_s = 2.0 if benchmark.quick else 4.0
    wall_s, found = take(real_s)
    share_s = max(sum(end - begin for begin, end in spans) for spans in found.values())
    ratio = wall_s / share_s
    benchmark.row(
        f"{real_s:g}, {REQUESTS} × {TESTS} in all",
        f"{share_s:.1f}",
        f"{wall_s:.1f}",
        f"{ratio:.3f}",
        str(WALL),
        real_s=real_s,
        share_s=share_s,
        wall_s=wall_s,
        ratio=ratio,
    )
    benchmark.check("wall ÷ longest share of a GPU", round(ratio, 3), WALL)
    benchmark.check("overlapping sections", _overlapping(found), ALONE)


def repeat(benchmark: Benchmark, times: int) -> None:
    """Count the runs in which two sections overlapped."""
    benchmark.head("runs under load:22", "overlaps:10", "sections:10", "s a run:9", "target:8")
    bad, seen, began = 0, 0, time.monotonic()
    with burners(os.cpu_count() or 1):
        for _ in range(times):
            _, found = take(SHORT_S)
            bad += _overlapping(found)
            seen += sum(map(len, found.values()))
    each_s = (time.monotonic() - began) / times
    row = (str(times), str(bad), str(seen), f"{each_s:.1f}", str(ALONE))
    benchmark.row(*row, runs=times, overlaps=bad, sections=seen, run_s=each_s)
    benchmark.check("overlapping sections", bad, ALONE)
    benchmark.check("sections in each run", seen / times, Target(TESTS, TESTS))


def _overlapping(found: dict[str, list[tuple[float, float]]]) -> int:
    return sum(len(overlaps(spans)) for spans in found.values())


@contextmanager
def burners(count: int) -> Iterator[None]:
    """Processes that compute for nothing meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def main() -> int:
    """Print a table; the exit code is 1 when a target is missed."""
    parser = option_parser(__doc__)
    parser.add_argument("--repeat", type=int, default=0, metavar="N", help="so many runs, loaded")
    options = parser.parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    if options.repeat:
        repeat(benchmark, options.repeat)
    else:
        wall(benchmark)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
