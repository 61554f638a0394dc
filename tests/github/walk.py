"""Does the whole of it hold in a repository that has just begun? A real engine, in five runs.

    python -m tests.github.walk [--keep FOLDER]

A scratch repository has three tests that measure and one that needs a GPU. The action's own steps
run in it as in a job: the first run, after its baseline was seeded, a pull request that makes
prefill slower by an option of the engine, one that makes it faster, and a machine that nobody has
measured on. What each must come to is asserted; what the gate could not decide is run again, a
wrong verdict never. The pages of the jobs are kept in a folder if one is given. Exit code 1:
something came to something else. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.github.job import Job
from tests.runner import commands_in

USUAL_UBATCH, WORSE_UBATCH, BETTER_UBATCH = 8, 1, 256
"""Tokens of a prompt that llama.cpp computes at once: by them alone prefill is slow or fast."""
ENGINE = """
from pytest_llmperf.backends.llama_cpp import LlamaCpp, LlamaCppOptions


class Options(LlamaCppOptions, frozen=True, kw_only=True):
    n_ubatch: int = {}


class House(LlamaCpp):
    name = "house"
    options_type = Options
"""
"""llama.cpp as the scratch project sets it up: what tests ask for stays, what they get does not."""
CONFTEST = """
def pytest_llmperf_backends():
    return {"house": "house:House"}
"""
TESTS = """
import pytest


@pytest.mark.perf(min_tps=5)
@pytest.mark.parametrize("quantization", ["Q4_K_M", "Q8_0"])
def test_chat(load_model, measure, quantization):
    model = load_model("synthetic:llama-15m", backend="house", quantization=quantization)
    measure(model, prompt_tokens=64, new_tokens=16)


@pytest.mark.perf(max_regression="5%")
def test_long_prompt(load_model, measure):
    model = load_model("synthetic:llama-15m", backend="house", quantization="Q4_K_M")
    measure(model, prompt_tokens=256, new_tokens=8)


@pytest.mark.requires(gpu=True, vram_gb=200)
def test_on_a_large_gpu(load_model, measure):
    measure(load_model("synthetic:llama-15m", backend="house", n_gpu_layers=-1))
"""
_UNKNOWN = "green: 1 without baseline, 2 passed, 1 skipped"
"""Two tests have a limit, which needs no baseline."""
ARGUMENTS = "--llmperf-samples=5 --llmperf-second-look=3"
ATTEMPTS = 4
"""Runs of one kind, at most: a gate that cannot decide says so, and its job is run again."""
Change = Callable[[Path], None]
"""What a pull request does to a checkout."""


@dataclass(frozen=True)
class Expected:
    """What a run has to come to."""

    name: str
    exit_code: int
    verdicts: tuple[str, ...]
    """The worst of its tests is one of them."""
    headline: str
    """A pattern of all of it; its group, if any, is the number of red tests."""


class Scratch:
    """A repository with the tests, and the jobs that ran in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main = folder / "main"
        (self.main / "perf").mkdir(parents=True)
        (self.main / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
        (self.main / "perf" / "test_speed.py").write_text(TESTS.lstrip())
        (self.main / "conftest.py").write_text(CONFTEST.lstrip())
        self.set(self.main, USUAL_UBATCH)
        self.git("init", "-q")
        self.commit("three tests")

    def set(self, checkout: Path, ubatch: int) -> None:
        """Change the engine's option."""
        (checkout / "house.py").write_text(ENGINE.lstrip().format(ubatch))

    def git(self, *words: str) -> None:
        """In the main branch's checkout."""
        named = ["-c", "user.name=walk", "-c", "user.email=walk@example.org"]
        subprocess.run(["git", *named, *words], cwd=self.main, check=True)

    def commit(self, why: str) -> None:
        """Everything there is."""
        self.git("add", "-A")
        self.git("commit", "-qm", why)

    def seed(self) -> None:
        """A provisional baseline on the main branch."""
        words = ["-m", "pytest_llmperf", "baseline", "seed", "--", *ARGUMENTS.split()]
        environment = {**os.environ, **_found(self.main)}
        subprocess.run([sys.executable, *words], cwd=self.main, env=environment, check=True)
        self.commit("a baseline")

    def checkout(self, name: str) -> Path:
        """Of a run of its own."""
        place = self.folder / name / "work"
        shutil.copytree(self.main, place)
        return place

    def run(self, checkout: Path, expected: Expected, *, event: str) -> tuple[Job, list[str]]:
        """The action's steps; the job, and how it differs from what is expected."""
        used: list[str] = []

        def use(name: str, inputs: Mapping[str, str]) -> None:
            used.append(name)

        job = Job(checkout.parent, checkout, stand_in=use)
        job.environment = {"GITHUB_EVENT_NAME": event, **_found(checkout)}
        told = job.action("llmperf", arguments=ARGUMENTS)
        (measured,) = (each for each in job.ran if each.name == "measure")
        found = [
            each
            for each in commands_in(measured.output)
            if each.startswith("::error file=perf/test_speed.py,line=")
        ]
        fits = re.fullmatch(expected.headline, told["headline"])
        red = int(fits[1]) if fits and fits.re.groups else 0
        wrong = [
            f"{what} is {is_!r} and should be {should!r}"
            for what, is_, should in (
                ("exit code", measured.exit_code, expected.exit_code),
                ("annotated tests", len(found), red),
                ("uploads", used, ["actions/upload-artifact"]),
                ("page", job.page.read_text(), Path(told["summary"]).read_text()),
            )
            if is_ != should
        ]
        if fits is None:
            wrong.append(f"headline is {told['headline']!r}, should be: {expected.headline}")
        if told["verdict"] not in expected.verdicts:
            wrong.append(f"verdict is {told['verdict']}, should be {expected.verdicts}")
        return job, wrong


def _found(checkout: Path) -> dict[str, str]:
    """What the checkout's own engine takes to be found by workers, and no history."""
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "LLMPERF_HISTORY": "off"}


def walk(folder: Path, keep: Path | None) -> bool:
    """The five runs; whether all came to what they must."""
    scratch = Scratch(folder)

    def run(expected: Expected, change: Change = _nothing, event: str = "push") -> bool:
        return _run(scratch, expected, change, event, keep)

    first = Expected("first-run", 0, ("NO_BASELINE",), _UNKNOWN)
    right = [run(first)]
    scratch.seed()
    right.append(run(Expected("seeded", 0, ("PASSED",), "green: 3 passed, 1 skipped")))
    # Of noisy processes one may stay undecided; none may pass.
    headline = r"(\d) of 4 tests red: \1 regressed, (?:\d inconclusive, )?1 skipped"
    slower = Expected("regresses", 1, ("REGRESSED",), headline)
    right.append(run(slower, lambda each: scratch.set(each, WORSE_UBATCH), "pull_request"))
    headline = r"green: (?:\d inconclusive, )?\d improved, (?:\d passed, )?1 skipped"
    faster = Expected("improves", 0, ("IMPROVED", "PASSED", "INCONCLUSIVE"), headline)
    right.append(run(faster, lambda each: scratch.set(each, BETTER_UBATCH), "pull_request"))
    other = Expected("another-machine", 0, ("NO_BASELINE",), _UNKNOWN)
    right.append(run(other, _as_of_another_machine, "pull_request"))
    return all(right)


def _run(
    scratch: Scratch, expected: Expected, change: Change, event: str, keep: Path | None
) -> bool:
    """One run, again as long as nothing else is wrong than that the gate could not decide."""
    for attempt in range(1, ATTEMPTS + 1):
        checkout = scratch.checkout(f"{expected.name}-{attempt}")
        change(checkout)
        began = time.monotonic()
        job, wrong = scratch.run(checkout, expected, event=event)
        headline = job.page.read_text().splitlines()[0].removeprefix("## llmperf: ")
        print(f"{expected.name}: {time.monotonic() - began:.0f} s: {headline}", flush=True)
        is_undecided = "inconclusive" in headline
        if not wrong or not is_undecided:
            break
        print("  undecided on a machine that changes, as in a job that is run again", flush=True)
    if wrong:
        print(*(f"  WRONG: {each}" for each in wrong), *(each.output for each in job.ran), sep="\n")
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(job.page, keep / f"{expected.name}.md")
    return not wrong


def _nothing(checkout: Path) -> None:
    """As it is on the main branch."""


def _as_of_another_machine(checkout: Path) -> None:
    """The baselines of the main branch are somebody else's."""
    (baselines,) = [each for each in (checkout / "baselines").iterdir() if each.is_dir()]
    baselines.rename(baselines.with_name("linux-x86_64-another-machine"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the pages are kept")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="llmperf-walk-") as folder:
        is_right = walk(Path(folder), options.keep)
    print("all as it must be" if is_right else "not as it must be")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
