"""Does the whole of it hold in a repository that has just begun? A real engine, in five runs.

    python -m tests.github.walk [--keep FOLDER]

A scratch repository has three tests that measure and one that needs a GPU. The action's own steps
run in it as in a job: the first run, after its baseline was seeded, a pull request that makes
prefill slower by an option of the engine, one that makes it faster, and a machine that nobody has
measured on. What each must come to is asserted; the pages of the jobs are kept in a folder if
one is given. Exit code 1: something came to something else. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Expected:
    """What a run has to come to."""

    name: str
    exit_code: int
    verdict: str
    headline: str
    """How it begins."""
    annotated: int = 0
    """Tests with an error on their line."""


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
        found = [
            each
            for each in commands_in(job.ran[0].output)
            if each.startswith("::error file=perf/test_speed.py,line=")
        ]
        wrong = [
            f"{what} is {is_!r} and should be {should!r}"
            for what, is_, should in (
                ("exit code", job.ran[0].exit_code, expected.exit_code),
                ("verdict", told["verdict"], expected.verdict),
                ("annotated tests", len(found), expected.annotated),
                ("uploads", used, ["actions/upload-artifact"]),
                ("page", job.page.read_text(), Path(told["summary"]).read_text()),
            )
            if is_ != should
        ]
        if not told["headline"].startswith(expected.headline):
            wrong.append(f"headline is {told['headline']!r}, should begin: {expected.headline!r}")
        return job, wrong


def _found(checkout: Path) -> dict[str, str]:
    """What the checkout's own engine takes to be found by workers, and no history."""
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "LLMPERF_HISTORY": "off"}


def walk(folder: Path, keep: Path | None) -> bool:
    """The five runs; whether all came to what they must."""
    scratch = Scratch(folder)
    is_right = True

    def run(checkout: Path, expected: Expected, event: str = "push") -> None:
        nonlocal is_right
        began = time.monotonic()
        job, wrong = scratch.run(checkout, expected, event=event)
        print(f"{expected.name}: {time.monotonic() - began:.0f} s", flush=True)
        print(f"  {job.page.read_text().splitlines()[0].removeprefix('## llmperf: ')}")
        if wrong:
            is_right = False
            print(*(f"  WRONG: {each}" for each in wrong), job.ran[0].output, sep="\n")
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(job.page, keep / f"{expected.name}.md")

    first = Expected("first-run", 0, "NO_BASELINE", _UNKNOWN)
    run(scratch.checkout(first.name), first)

    scratch.seed()
    run(scratch.checkout("seeded"), Expected("seeded", 0, "PASSED", "green: 3 passed, 1 skipped"))

    slower = scratch.checkout("regresses")
    scratch.set(slower, WORSE_UBATCH)
    headline = "3 of 4 tests red: 3 regressed, 1 skipped"
    run(slower, Expected("regresses", 1, "REGRESSED", headline, annotated=3), "pull_request")

    faster = scratch.checkout("improves")
    scratch.set(faster, BETTER_UBATCH)
    better = Expected("improves", 0, "IMPROVED", "green: 3 improved, 1 skipped")
    run(faster, better, "pull_request")

    elsewhere = scratch.checkout("another-machine")
    (baselines,) = [each for each in (elsewhere / "baselines").iterdir() if each.is_dir()]
    baselines.rename(baselines.with_name("linux-x86_64-another-machine"))
    other = Expected("another-machine", 0, "NO_BASELINE", _UNKNOWN)
    run(elsewhere, other, "pull_request")
    return is_right


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
