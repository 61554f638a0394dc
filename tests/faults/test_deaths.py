"""What does a test learn about a worker that died, and does the run go on?"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pytest_llmperf.worker.errors import EngineRaised, WorkerDied
from pytest_llmperf.worker.loading import Loading
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool
from tests.faults.conftest import RunPytest
from tests.faults.processes import (
    CRASH_AT_EXIT,
    Family,
    add_site_hook,
    generate,
    loading,
    prompt,
    signal_in,
)

SIGNALS = [signal.SIGKILL, signal.SIGSEGV, signal.SIGILL]
PHASES = ["load", "prefill", "decode"]
ENGINES = [
    pytest.param("llama-cpp", marks=pytest.mark.engine),
    pytest.param("transformers", marks=pytest.mark.engine),
]


def kill(model: LoadedModel) -> None:
    os.kill(model.worker.pid, signal.SIGKILL)
    while model.worker.alive:
        time.sleep(0.01)


def slow(engine: str) -> Loading:
    """A model whose prompt of 1900 tokens leaves time to be hit."""
    if engine == "llama-cpp":
        return loading(engine, n_ctx=4096)
    return loading(engine, source="synthetic:llama-160m")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_engine_is_named_with_signal_phase_and_log(
    engine: str,
    number: signal.Signals,
    phase: str,
    pool: WorkerPool,
    family: Family,
    tmp_path: Path,
) -> None:
    asked, wanted = (1900, 100) if phase == "prefill" else (16, 1000)
    with pytest.raises(WorkerDied) as caught, signal_in(tmp_path, phase, number):
        generate(pool.load(slow(engine)), prompt(asked), wanted)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{engine} worker killed by {number.name} during {phase}")
    assert f"log: {tmp_path}/worker-000-{engine}.log" in str(caught.value)
    if engine == "llama-cpp" and phase != "load":
        assert "last words (20 lines of stderr):" in str(caught.value)
    assert family.alive() == []


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_scripted_death_is_named_with_signal_and_phase(
    number: signal.Signals, phase: str, pool: WorkerPool, family: Family
) -> None:
    script = loading("fake", disaster=number.name.lower(), at=phase)
    with pytest.raises(WorkerDied) as caught:
        generate(pool.load(script), prompt(8), 10)
    after = " (after 5 tokens)" if phase == "decode" else ""
    assert f"fake worker killed by {number.name} during {phase}{after}\n" in str(caught.value)
    assert family.alive() == []


def test_an_exit_is_told_with_its_code_and_last_words(pool: WorkerPool) -> None:
    with pytest.raises(WorkerDied) as caught:
        generate(pool.load(loading("fake", disaster="exit")), prompt(8), 10)
    text = str(caught.value)
    assert "fake worker exited with code 3 during decode (after 5 tokens)" in text
    assert text.endswith(
        "last words (1 lines of stderr):\n  the scripted engine leaves with code 3"
    )


def test_a_worker_killed_between_requests_is_told_so(pool: WorkerPool) -> None:
    model = pool.load(loading("fake"))
    kill(model)
    with pytest.raises(WorkerDied, match="killed by SIGKILL during waiting for work"):
        generate(model, prompt(8), 10)
    assert pool.bad_exits == []


def test_a_worker_that_died_unasked_is_replaced_and_its_death_is_noted(pool: WorkerPool) -> None:
    dead = pool.load(loading("fake"))
    kill(dead)
    fresh = pool.load(loading("fake"))
    assert generate(fresh, prompt(8), 10).count == 10
    pool.close()
    (note,) = pool.bad_exits
    assert "(killed by SIGKILL)" in note


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a stopped group with us")
def test_a_worker_that_stands_still_goes_on_afterwards(pool: WorkerPool) -> None:
    model = pool.load(loading("fake"))
    status = Path(f"/proc/{model.worker.pid}/stat")

    def state() -> str:
        return status.read_text().rpartition(")")[2].split()[0]

    with model.worker.still():
        while state() != "T":  # a signal takes a moment
            time.sleep(0.01)
        assert model.worker.alive
    assert generate(model, prompt(8), 10).count == 10
    with pytest.raises(KeyError), model.worker.still():
        raise KeyError
    assert generate(model, prompt(8), 10).count == 10
    with model.worker.still():
        assert model.worker.kill() == -signal.SIGKILL


def test_an_interrupted_request_never_answers_the_next_one(pool: WorkerPool) -> None:
    """A time limit of another plugin raises in the middle of a request, and the run goes on."""

    def limit(number: int, frame: object) -> None:
        raise TimeoutError("too slow")

    before = signal.signal(signal.SIGALRM, limit)
    try:
        model = pool.load(loading("fake", disaster="hang"))
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(TimeoutError):
            generate(model, prompt(8), 10)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not model.worker.alive
    assert pool.load(loading("fake", disaster="hang")).worker.pid != model.worker.pid


def test_an_engine_that_raises_is_quoted_and_its_worker_lives_on(pool: WorkerPool) -> None:
    model = pool.load(loading("fake", disaster="raise", at="prefill"))
    for _ in range(2):
        with pytest.raises(EngineRaised) as caught:
            generate(model, prompt(8), 10)
        assert "fake raised RuntimeError: the scripted engine gives up\nlog: " in str(caught.value)
        assert "in generate" in str(caught.value)
    assert model.worker.alive


def test_a_load_that_finds_no_memory_says_so_and_the_next_one_starts_anew(
    pool: WorkerPool,
) -> None:
    with pytest.raises(EngineRaised, match="fake ran out of memory: MemoryError"):
        pool.load(loading("fake", ram_mib=10**9))
    assert generate(pool.load(loading("fake")), prompt(8), 10).count == 10


def test_a_crash_on_the_way_out_after_good_work_is_noted(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", add_site_hook(tmp_path, CRASH_AT_EXIT))
    assert generate(pool.load(loading("fake")), prompt(8), 10).count == 10
    pool.close()
    (note,) = pool.bad_exits
    assert "fake worker did not leave well after its work (killed by SIGSEGV); log: " in note


def test_a_run_whose_worker_crashed_on_its_way_out_says_so_at_its_end(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    tests = """
import pytest

@pytest.mark.perf(min_tps=1)
def test_good(load_model, measure):
    measure(load_model("synthetic:llama-15m", backend="fake"), prompt_tokens=8, new_tokens=8)
"""
    run = run_pytest(tests, PYTHONPATH=add_site_hook(tmp_path, CRASH_AT_EXIT))
    assert run.finish() == 0
    assert "note: fake worker did not leave well after its work (killed by SIGSEGV)" in run.output


TWO_TESTS = """
import pytest
pytestmark = pytest.mark.perf(min_tps=1)

def load(load_model):
    return load_model("synthetic:llama-15m", backend="llama-cpp", n_ctx=4096, n_threads=1)

def test_struck(load_model, measure):
    measure(load(load_model), prompt_tokens=8, new_tokens=4000)

def test_next(load_model, measure):
    measure(load(load_model), prompt_tokens=8, new_tokens=8)
"""


@pytest.mark.engine
def test_a_worker_killed_in_decode_fails_its_test_and_the_next_one_passes(
    run_pytest: RunPytest,
) -> None:
    run = run_pytest(TWO_TESTS)
    os.kill(run.wait_for_phase("decode"), signal.SIGKILL)
    assert run.finish() == 1
    assert "test_struck FAILED" in run.output
    assert "test_next PASSED" in run.output
    assert "llama-cpp worker killed by SIGKILL during decode (after " in run.output
    assert ") of warm-up 1\n" in run.output
    assert "last words (20 lines of stderr):" in run.output
    assert "Traceback" not in run.output
    assert len(list(run.folder.rglob("worker-*.log"))) == 2
    assert run.family.survivors() == []
