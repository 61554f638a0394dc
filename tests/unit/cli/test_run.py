"""Does ``pytest-llmperf run`` measure one model, and say what is wrong with a wrong request?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_llmperf import cli
from pytest_llmperf.cli.workbench import default_backend
from tests.unit.cli.baselines import unfolded


@pytest.fixture(autouse=True)
def own_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted engine measures nothing, so that it need not wait for who does."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


FAKE = ["run", "synthetic:any", "--backend", "fake", "--samples", "5"]


def test_a_page_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*FAKE, "--prompt-tokens", "8", "--new-tokens", "4"]) == 0
    told = capsys.readouterr()
    assert "fake 1 · any · 8+4 tokens" in told.out
    assert "What limits decode cannot be told" in told.out
    assert told.err == ""


def test_json_has_the_numbers_and_what_limits_them(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-o", "decode_tps=50", "--batch", "3", "--depth", "16", "--json"]
    assert cli.main([*FAKE, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["measurement"]["metrics"]["decode_tps"]["median"] == pytest.approx(150)
    assert report["measurement"]["workload"]["depth"] == 16
    assert report["bottleneck"]["limit"] is None
    assert report["hardware"]["cpu"]["usable_cores"] >= 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["--backend", "llamacpp"], 2, "unknown backend 'llamacpp', did you mean 'llama-cpp'?"),
        (["-o", "decode_tsp=5"], 2, "has no option 'decode_tsp', did you mean 'decode_tps'?"),
        (["-o", "n_ctx=many"], 2, "n_ctx"),
        (["--new-tokens", "0"], 2, "new_tokens must be a whole number of at least 1, not 0"),
        (["--prompt-tokens", "5000"], 2, "need a context of 5128, but fake was loaded with 4096"),
        (["-o", "disaster=sigkill"], 4, "fake worker killed by SIGKILL during decode"),
        (["-o", "disaster=raise"], 4, "the scripted engine gives up"),
    ],
)
def test_what_goes_wrong_is_one_message_and_an_exit_code(
    arguments: list[str], exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*FAKE, *arguments]) == exit_code
    told = capsys.readouterr()
    assert said in unfolded(told.err)
    assert told.err.startswith("pytest-llmperf run: ")
    assert told.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["synthetic:any", "-o", "n_ctx"],
        ["synthetic:any", "--samples", "4"],
        ["synthetic:any", "--timeout", "0"],
        ["synthetic:any", "--batch", "two"],
    ],
)
def test_a_bad_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", *arguments])
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_model_that_is_not_here_is_nothing_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", str(tmp_path / "none.gguf")]) == 3
    assert "no such file or folder" in unfolded(capsys.readouterr().err)


def test_an_invalid_measurement_is_printed_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*FAKE, "-o", "missing_tokens=1"]) == 1
    assert "INVALID: 127 tokens generated, 128 asked for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("made", "backend"),
    [
        ("m.gguf", "llama-cpp"),
        ("folder/m.gguf", "llama-cpp"),
        ("folder/config.json", "transformers"),
    ],
)
def test_the_files_choose_the_backend(tmp_path: Path, made: str, backend: str) -> None:
    path = tmp_path / made
    path.parent.mkdir(exist_ok=True)
    path.touch()
    source = path if path.parent == tmp_path else path.parent
    assert default_backend(str(source)) == backend


def test_a_synthetic_model_runs_on_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.cli.workbench.installed_version", lambda _: "1.0")
    assert default_backend("synthetic:llama-15m") == "llama-cpp"
    monkeypatch.setattr("pytest_llmperf.cli.workbench.installed_version", lambda _: None)
    assert default_backend("synthetic:llama-15m") == "transformers"
