"""What is left in the cache when a builder or its caller is killed, interrupted or doubled?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.models import BuildFailed, ModelSpec, RequirementMissing, resolve, synthetic
from pytest_llmperf.models.builder import MODULE
from tests.unit.models.conftest import ConfigWriter

pytestmark = pytest.mark.engine

WIDE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6}
"""A model whose quantizing takes seconds: long enough to be in the middle of it."""

PROGRAM = """
import sys
from pytest_llmperf.models import ModelSpec, resolve
last = None
def show(stage, fraction):
    global last
    if stage != last:
        print(stage, flush=True)
        last = stage
print(resolve(ModelSpec(sys.argv[1], sys.argv[2]), "gguf", progress=show).path, flush=True)
"""


def caller(source: str, quantization: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, source, quantization],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def builders_of(pid: int) -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if MODULE in process.cmdline()
    ]


def is_gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def entries(cache: Path) -> list[str]:
    return [path.name for path in (cache / "models").iterdir() if path.name != ".locks"]


def kill_at(stage_to_kill: str) -> Callable[[str, float], None]:
    def progress(stage: str, fraction: float) -> None:
        if stage == stage_to_kill:
            for builder in builders_of(os.getpid()):
                builder.kill()

    return progress


@pytest.mark.parametrize("stage", ["weights", "quantizing"])
def test_a_killed_builder_is_an_error_and_leaves_nothing(
    tiny: ConfigWriter, cache: Path, stage: str
) -> None:
    spec = ModelSpec(tiny(**WIDE), "Q4_K_M")
    with pytest.raises(BuildFailed, match="Q4_K_M was killed by SIGKILL") as caught:
        resolve(spec, "gguf", progress=kill_at(stage))
    assert entries(cache) == []
    assert ("It wrote last:" in str(caught.value)) == (stage == "quantizing")


def test_a_builder_that_takes_too_long_is_ended(tiny: ConfigWriter, cache: Path) -> None:
    with pytest.raises(BuildFailed, match="took longer than it was allowed"):
        resolve(ModelSpec(tiny(**WIDE), "Q4_K_M"), "gguf", timeout_s=1.0)
    assert builders_of(os.getpid()) == []
    assert entries(cache) == []


def test_an_interrupted_caller_ends_its_builder_and_leaves_nothing(
    tiny: ConfigWriter, cache: Path
) -> None:
    with caller(tiny(**WIDE), "Q4_K_M") as process:
        assert process.stdout is not None
        while process.stdout.readline() != "quantizing\n":
            assert process.poll() is None
        (builder,) = builders_of(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in errors
    assert is_gone(builder)
    assert entries(cache) == []


def test_a_killed_callers_builder_dies_and_its_rests_are_swept(
    tiny: ConfigWriter, cache: Path
) -> None:
    source = tiny(**WIDE)
    with caller(source, "Q8_0") as process:
        assert process.stdout is not None
        process.stdout.readline()
        (builder,) = builders_of(process.pid)
        process.kill()
    wait_until(lambda: is_gone(builder))
    (left_behind,) = entries(cache)
    assert left_behind.startswith(".tmp-tiny-Q8_0-")
    found = resolve(ModelSpec(source, "Q8_0"), "gguf")
    assert entries(cache) == [Path(found.path).parent.name]


def test_two_callers_build_a_model_once(tiny: ConfigWriter, cache: Path) -> None:
    source = tiny(**WIDE)
    both = [caller(source, "Q8_0") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert outputs[0][-1] == outputs[1][-1]
    assert sorted("weights" in output for output in outputs) == [False, True]
    assert len(entries(cache)) == 1


def test_a_builder_that_raises_says_so_with_its_last_words(
    tiny: ConfigWriter, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "gguf.py").write_text("raise RuntimeError('no luck today')")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with pytest.raises(BuildFailed, match=r"(?s)exited with code 1 .*no luck today"):
        resolve(ModelSpec(tiny()), "gguf")
    (folder / "gguf.py").write_text("import a_module_that_is_not_there")
    with pytest.raises(RequirementMissing, match="pip install a_module_that_is_not_there"):
        resolve(ModelSpec(tiny()), "gguf")
    assert entries(cache) == []


def test_a_cached_plain_file_is_quantized_without_new_weights(
    tiny: ConfigWriter, cache: Path
) -> None:
    source = tiny()
    quantized = resolve(ModelSpec(source, "Q8_0"), "gguf", cache=cache / "apart")
    resolve(ModelSpec(source, "F16"), "gguf")
    stages: set[str] = set()
    again = resolve(ModelSpec(source, "Q8_0"), "gguf", progress=lambda stage, _: stages.add(stage))
    assert stages == {"quantizing"}
    # Every plain type holds the same numbers, so that it does not matter which one was there.
    assert Path(again.path).read_bytes() == Path(quantized.path).read_bytes()


def test_a_type_that_does_not_fit_the_rows_is_recorded_as_what_it_became(
    tiny: ConfigWriter,
) -> None:
    found = resolve(ModelSpec(tiny(), "Q4_K_M"), "gguf")
    assert found.quantization == "Q4_K_M"
    assert set(found.type_mix) == {"Q5_0", "Q8_0", "F32"}
    assert sum(found.type_mix.values()) == found.parameters
    assert found.bits_per_weight == pytest.approx(found.weight_bytes * 8 / found.parameters)


def test_space_that_was_estimated_is_enough(tiny: ConfigWriter) -> None:
    for quantization in ("F16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "Q3_K_S", "Q2_K"):
        spec = ModelSpec(tiny(hidden_size=512, vocab_size=4096), quantization)
        model = synthetic.SyntheticModel.of(spec, "gguf")
        found = resolve(spec, "gguf")
        assert model.space_needed(has_base=True) + (64 << 20) > Path(found.path).stat().st_size
