"""What is left of a run whose pytest process is interrupted, ended or killed? Nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from pytest_llmperf.models import ModelSpec, resolve
from tests.faults.conftest import RunPytest
from tests.faults.processes import GRANDCHILD, ONE_THREAD, PytestRun, add_site_hook

ONE_TEST = """
def test_it(load_model, measure):
    model = load_model({source!r}, backend={engine!r}, **{options!r})
    measure(model, prompt_tokens=8, new_tokens={new_tokens})
"""

WIDE = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
"""A model whose building takes seconds: long enough to be in the middle of it."""


def one_test(
    engine: str,
    *,
    source: str = "synthetic:llama-15m",
    new_tokens: int = 64,
    **options: object,
) -> str:
    chosen = ONE_THREAD.get(engine, {}) | options
    return ONE_TEST.format(source=source, engine=engine, options=chosen, new_tokens=new_tokens)


def long_test(engine: str, phase: str) -> str:
    """A test that stays in ``phase`` for seconds, or in its load as long as the engine does."""
    if engine == "fake":
        return one_test(engine, disaster="hang", at=phase)
    if engine == "llama-cpp":
        return one_test(engine, n_ctx=8192, new_tokens=8000)
    return one_test(engine, source="synthetic:llama-160m", new_tokens=2000)


def wide_model(folder: Path) -> str:
    (folder / "config.json").write_text(json.dumps(WIDE))
    return f"synthetic:{folder}/config.json"


def entries(cache: Path) -> list[str]:
    return [path.name for path in (cache / "models").iterdir() if path.name != ".locks"]


def wait_for_build(cache: Path) -> None:
    """Wait until a builder has begun to write a model."""
    deadline = time.monotonic() + 30
    while not any(p.stat().st_size for p in cache.glob("models/.tmp-*/*.gguf") if p.exists()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_interrupted(run: PytestRun, number: signal.Signals) -> None:
    """Ctrl-C is pytest's to report; SIGTERM ends Python without a word."""
    code = run.finish(timeout_s=15)
    if number is signal.SIGINT:
        assert code == 2
        assert "KeyboardInterrupt" in run.output
        assert "INTERNALERROR" not in run.output
    else:
        assert code == -number
    assert run.family.survivors() == []


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_no_process_and_no_half_model(
    number: signal.Signals, run_pytest: RunPytest, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    source = wide_model(tmp_path)
    tests = one_test("llama-cpp", source=source)
    run = run_pytest(tests, LLMPERF_CACHE=str(cache))
    wait_for_build(cache)
    run.process.send_signal(number)
    assert_interrupted(run, number)
    if number is signal.SIGINT:
        assert entries(cache) == []
    else:
        assert all(name.startswith(".tmp-") for name in entries(cache))
    found = resolve(ModelSpec(source, "Q4_K_M"), "gguf", cache=cache)
    assert entries(cache) == [Path(found.path).parent.name]


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["load", "decode"])
@pytest.mark.parametrize("engine", ["llama-cpp", "transformers"])
def test_an_interrupted_run_leaves_no_process(
    engine: str, phase: str, number: signal.Signals, run_pytest: RunPytest
) -> None:
    run = run_pytest(long_test(engine, phase))
    run.wait_for_phase(phase)
    run.process.send_signal(number)
    assert_interrupted(run, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["load", "prefill", "decode"])
def test_an_interrupted_run_leaves_no_hanging_process(
    phase: str, number: signal.Signals, run_pytest: RunPytest
) -> None:
    run = run_pytest(long_test("fake", phase))
    run.wait_for_phase(phase)
    run.process.send_signal(number)
    assert_interrupted(run, number)


@pytest.mark.parametrize("helper", [False, True], ids=["alone", "with-grandchild"])
@pytest.mark.parametrize("phase", ["load", "decode"])
@pytest.mark.parametrize(
    "engine",
    [
        "fake",
        pytest.param("llama-cpp", marks=pytest.mark.engine),
        pytest.param("transformers", marks=pytest.mark.engine),
    ],
)
def test_nothing_outlives_a_pytest_that_was_killed(
    engine: str, phase: str, helper: bool, run_pytest: RunPytest, tmp_path: Path
) -> None:
    hook = {"PYTHONPATH": add_site_hook(tmp_path, GRANDCHILD)} if helper else {}
    run = run_pytest(long_test(engine, phase), **hook)
    worker = run.wait_for_phase(phase)
    if phase == "load":  # which is over in milliseconds, and is stayed in by whoever is stopped
        os.kill(worker, signal.SIGSTOP)
    run.family.wait_for(3 if helper else 2)
    run.process.kill()
    run.process.wait()
    assert run.family.survivors() == []


def test_a_second_ctrl_c_leaves_no_process_either(run_pytest: RunPytest) -> None:
    run = run_pytest(long_test("fake", "decode"))
    os.kill(run.wait_for_phase("decode"), signal.SIGSTOP)
    for _ in range(3):
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert run.finish(timeout_s=15) != 0
    assert run.family.survivors() == []


def test_xdists_workers_take_their_engines_with_them(run_pytest: RunPytest) -> None:
    run = run_pytest(long_test("fake", "decode"), "-n1")
    run.wait_for_phase("decode")
    run.process.kill()
    run.process.wait()
    # execnet lets its own workers finish for 5 s, then interrupts them; ours end with those.
    assert run.family.survivors(20) == []
