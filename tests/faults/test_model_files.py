"""What does a test say whose model file is missing or broken?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.models import ModelSpec, resolve
from tests.faults.conftest import RunPytest
from tests.unit.models.gguf_encoder import model

TESTS = """
import pytest

@pytest.mark.parametrize("name", {names!r})
def test_model(name, load_model):
    load_model({folder!r} + "/" + name + ".gguf", backend="llama-cpp")
"""

HTML = b"<!DOCTYPE html>\n<html><title>404 Not Found</title></html>\n" * 40

pytestmark = pytest.mark.engine


def says(output: str, name: str) -> str:
    """The part of a report that belongs to one test."""
    _, _, after = output.partition(f" test_model[{name}] _")
    lines = after.splitlines()[1:]
    end = next(i for i, line in enumerate(lines) if line.startswith(("____", "====", "----")))
    return "\n".join(lines[:end])


def test_broken_files_are_red_with_what_is_wrong_in_one_screen(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    found = resolve(ModelSpec("synthetic:llama-15m", "Q4_K_M"), "gguf")
    whole = Path(found.path).read_bytes()
    broken = {
        "half": (whole[: len(whole) // 2], "truncated: tensor "),
        "header": (whole[:300_000], "truncated: the file ends at byte 300000, within array "),
        "web": (HTML, "not a GGUF file but an HTML page (a failed download?)"),
        "big": (model("big").file(), "is a big-endian GGUF on a little-endian machine"),
        "empty": (b"", "not a GGUF file but an empty file"),
    }
    for name, (content, _) in broken.items():
        (tmp_path / f"{name}.gguf").write_bytes(content)
    run = run_pytest(TESTS.format(names=list(broken), folder=str(tmp_path)))
    assert run.finish() == 1
    assert "5 failed" in run.output
    assert "Traceback" not in run.output
    for name, (_, problem) in broken.items():
        text = says(run.output, name)
        assert f"{tmp_path}/{name}.gguf" in text
        assert problem in text
        assert len(text.splitlines()) <= 24
    assert not list(run.folder.rglob("worker-*")), "found out before any worker is started"


@pytest.mark.parametrize("strict", [False, True])
def test_a_missing_file_skips_and_is_red_under_strict(
    strict: bool, run_pytest: RunPytest, tmp_path: Path
) -> None:
    tests = TESTS.format(names=["gone"], folder=str(tmp_path))
    run = run_pytest(tests, *(["--llmperf-strict"] if strict else []))
    reason = f"{tmp_path}/gone.gguf: no such file or folder."
    assert run.finish() == (1 if strict else 5), "a run that measured nothing is not green"
    if strict:
        assert f"{reason} (would skip without --llmperf-strict)" in run.output
        assert "1 failed" in run.output
    else:
        assert f"skipped 1×: {reason}" in run.output


def test_a_whole_header_that_the_engine_refuses_is_red_with_its_log(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    """What only the engine can know: an architecture that llama.cpp has never heard of."""
    found = resolve(ModelSpec("synthetic:llama-15m", "Q4_K_M"), "gguf")
    whole = Path(found.path).read_bytes()
    # A text of the same length, so that every offset of the file stays right.
    (tmp_path / "odd.gguf").write_bytes(whole.replace(b"llama", b"lxama"))
    run = run_pytest(TESTS.format(names=["odd"], folder=str(tmp_path)))
    assert run.finish() == 1
    assert f"llama.cpp could not load {tmp_path}/odd.gguf; its log says why" in run.output
    assert "unknown model architecture: 'lxama'" in run.output
    assert run.family.survivors() == []
