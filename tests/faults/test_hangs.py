"""Is a worker that says nothing any more given up at its deadline, and really ended?"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pytest_llmperf.worker.errors import WorkerHung
from pytest_llmperf.worker.pool import WorkerPool
from tests.faults.processes import (
    GRANDCHILD,
    Family,
    add_site_hook,
    generate,
    loading,
    prompt,
    signal_in,
)

PHASES = ["load", "prefill", "decode"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_scripted_hang_ends_at_the_deadline(
    phase: str,
    pool: WorkerPool,
    family: Family,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", add_site_hook(tmp_path, GRANDCHILD))
    script = loading("fake", disaster="hang", at=phase, timeout_s=2.0)
    phases: list[str] = []
    with pytest.raises(WorkerHung) as caught:
        generate(pool.load(script, phases.append), prompt(8), 10, timeout_s=2.0)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"fake worker gave no answer for 2 s, and was ended, during {phase}")
    assert phases == (["load"] if phase == "load" else [])
    assert family.survivors() == []


@pytest.mark.engine
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("engine", ["llama-cpp", "transformers"])
def test_a_stopped_engine_ends_at_the_deadline(
    engine: str, phase: str, pool: WorkerPool, family: Family, tmp_path: Path
) -> None:
    # The import is part of the load's deadline, and takes seconds on a busy machine.
    load_s = 12.0 if engine == "transformers" else 3.0
    timeout_s = load_s if phase == "load" else 60.0
    if engine == "llama-cpp":
        slow = loading(engine, timeout_s=timeout_s, n_ctx=4096)
    else:
        slow = loading(engine, timeout_s=timeout_s, source="synthetic:llama-160m")
    ids = prompt(1000 if phase == "prefill" else 16)
    with pytest.raises(WorkerHung) as caught, signal_in(tmp_path, phase, signal.SIGSTOP):
        generate(pool.load(slow), ids, 1000, timeout_s=4.0)
    waited = load_s if phase == "load" else 4.0
    first = str(caught.value).splitlines()[0]
    assert first.startswith(
        f"{engine} worker gave no answer for {waited:g} s, and was ended, during {phase}"
    )
    assert family.alive() == []
