"""Does the command measure two arms, and say which is faster, by how much, in which version?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pytest_llmperf.cli import main
from tests.unit.cli.baselines import unfolded


@pytest.fixture(autouse=True)
def own_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted engines need nobody's turn."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


BOTH = ["--backend=fake", "--prompt-tokens=8", "--new-tokens=8", "--samples=5"]


def compare(*arguments: str) -> int:
    return main(["compare", *arguments, *BOTH])


def test_two_option_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("fake:model,decode_tps=130", ",decode_tps=100") == 0
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == "decode: fake:model,decode_tps=130 is 1.30 × fake:model,decode_tps=100"
    assert second.startswith("  1.2")
    assert " by 5 pairs; memory 1.00 ×" in second
    assert rest[:2] == ["  A: fake 1", "  B: fake 1"]  # a busy machine is noted after them


def test_long_arms_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    more = ",n_ctx=4096,prefill_tps=1000,chunk_tokens=1"
    assert compare(f"fake:model{more}", f",decode_tps=100{more}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"decode: fake:model{more} is 1.00 ×"


def test_the_help_names_a_share(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    told = capsys.readouterr().out
    assert "--max-slowdown SHARE" in told
    assert "%%" not in told


@pytest.mark.parametrize(("limit", "code", "said"), [("1.1", 0, "PASSED"), ("2", 1, "OVER_BUDGET")])
def test_a_limit_is_the_exit_code(
    limit: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ("fake:model,decode_tps=130", ",decode_tps=100")
    assert compare(*arms, f"--min-speedup={limit}") == code
    assert f"  min_speedup={limit}: {said}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("most", "code"), [("1%", 1), ("50%", 0)])
def test_perplexity_is_a_limit(
    most: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A's model is sure of what does not come."""
    (tmp_path / "mine.txt").write_text("z" * 640)
    arms = ("fake:model,n_ctx=64,sharpness=9", ",n_ctx=64,sharpness=0")
    asked = (f"--max-perplexity-increase={most}", f"--text={tmp_path / 'mine.txt'}")
    assert compare(*arms, *asked) == code
    said = unfolded(capsys.readouterr().out)
    assert "perplexity 1.253 ×" in said
    assert f"max_perplexity_increase={float(most[:-1]) / 100:g}: " in said


def test_a_text_without_a_limit_is_only_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("fake:model,n_ctx=64", ",n_ctx=64,sharpness=0", "--text=shipped") == 0
    assert "perplexity 0." in unfolded(capsys.readouterr().out)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("fake:model", ",decode_tps=200", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ratio"] == pytest.approx(0.5, rel=0.01)
    assert len(told["a"]) == len(told["b"]) == 5


def test_another_python_loads_b(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second environment: an interpreter of its own that leaves a mark."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho started >> {tmp_path}/mark\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert compare("fake:model", ",", f"--arm-python={python}") == 0
    assert f"× fake:model in {python} " in unfolded(capsys.readouterr().out)
    assert (tmp_path / "mark").read_text().count("started") == 6, "one of them only to try it"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fake:model,decode_tps", ","], 2, "'decode_tps' is not NAME=VALUE"),
        (["fake:model,speed=3", ","], 2, "speed"),
        (["fake:model", ",", "--arm-python=/no/python"], 2, "there is no such file"),
        (["fake:model", ",", "--max-slowdown=much"], 2, "max_slowdown must read like"),
        (["fake:model", ",", "--max-memory-ratio=0"], 2, "max_memory_ratio must be a number"),
        (["fake:model", ",", "--max-perplexity-increase=200%"], 2, 'is a share such as "5%"'),
        (["fake:model", ",", "--text=/no/text"], 2, "text '/no/text': no such file"),
        (["fake:model", ",missing_tokens=1"], 1, ""),
        (["fake:model", ",disaster=sigkill"], 4, "killed by SIGKILL"),
    ],
)
def test_what_goes_wrong_is_named(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(*arguments) == code
    assert said in unfolded(capsys.readouterr().err)


def test_an_environment_without_this_package_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named pytest_llmperf' >&2\nexit 1\n")
    python.chmod(0o755)
    assert compare("fake:model", ",", f"--arm-python={python}") == 2
    told = unfolded(capsys.readouterr().err)
    assert "no Python that can run a worker: No module named pytest_llmperf" in told
