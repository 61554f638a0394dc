"""Does a stored reference tell what the loaded one tells, and is a wrong one named?"""

from __future__ import annotations

import errno
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pytest_llmperf import cli
from tests.plugin.conftest import Run
from tests.plugin.test_quality import USUAL, divergence, metrics, reads
from tests.unit.cli.baselines import unfolded

FILE = "sharp.llmperf-logits"
AGAINST = f'against="{FILE}"'


@pytest.fixture(autouse=True)
def here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a test and the command share; scripted engines need nobody's turn."""
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    return pytester.path


def store(*arguments: str, sharpness: float = 12.0, n_ctx: int = 64) -> int:
    options = (f"-osharpness={sharpness}", f"-on_ctx={n_ctx}")
    return cli.main(["reference", "fake:model", FILE, "--backend=fake", *options, *arguments])


def rewrite(here: Path, **changes: object) -> None:
    """Change the head of the stored file."""
    with zipfile.ZipFile(here / FILE) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(here / FILE, "w") as archive:
        for name, data in members.items():
            if name != "head.npy":
                archive.writestr(name, data)
                continue
            with np.load(here / f"{FILE}.copy") as old:
                head = json.loads(old["head"].tobytes()) | changes
            with archive.open(name, "w") as member:
                np.lib.format.write_array(member, np.frombuffer(json.dumps(head).encode(), "u1"))


def test_it_tells_what_the_loaded_one_tells(
    llmperf: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store() == 0
    said = unfolded(capsys.readouterr().out)
    assert f"{FILE}: fake fake:model sharpness=12.0 n_ctx=64, 8 windows of 64 tokens of" in said
    assert llmperf(reads(AGAINST), "--llmperf-json=out.json").ret == 0
    found = metrics(here / "out.json")
    # Of a vocabulary of equals float16 rounds all but one in the same way: the worst it can do.
    assert found["kl_divergence"]["median"] == pytest.approx(divergence(USUAL, 12.0), rel=2e-3)
    assert found["top1_agreement"]["median"] == 1.0
    (test,) = json.loads((here / "out.json").read_text())["tests"]
    (judged,) = test["measurements"]
    assert judged["measurement"]["quality"]["reference"].startswith("fake fake:model")
    assert not list(here.glob(f".{FILE}*"))


def test_a_budget_is_judged_by_it(llmperf: Run) -> None:
    assert store() == 0
    marker = "@pytest.mark.perf(max_kl_divergence=0.5)"
    llmperf(reads(AGAINST, marker=marker)).assert_outcomes(failed=1)


def test_windows_are_as_long_as_they_were_stored(llmperf: Run, here: Path) -> None:
    assert store() == 0
    longer = reads(AGAINST).replace("n_ctx=64", "n_ctx=256")
    assert llmperf(longer, "--llmperf-json=out.json").ret == 0
    assert metrics(here / "out.json")["kl_divergence"]["n"] == 8 * 31
    shorter = llmperf(reads(AGAINST).replace("n_ctx=64", "n_ctx=48"))
    shorter.assert_outcomes(failed=1)
    assert "in windows of 64 tokens, the model's context holds 48" in flat(shorter)


def test_windows_are_as_long_as_is_asked_for(
    llmperf: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a test is told to do that wants other windows."""
    assert store() == 0
    asked = reads(f"{AGAINST}, window_tokens=16")
    refused = llmperf(asked)
    refused.assert_outcomes(failed=1)
    assert "or store the reference anew with --window-tokens" in flat(refused)
    capsys.readouterr()
    assert store("--window-tokens=16", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["windows"], told["window_tokens"]) == (FILE, 8, 16)
    assert told["model"].startswith("fake fake:model")
    assert told["bytes"] == (here / FILE).stat().st_size
    assert llmperf(asked, "--llmperf-json=out.json").ret == 0
    assert metrics(here / "out.json")["kl_divergence"]["n"] == 8 * 7


def flat(result: pytest.RunResult) -> str:
    return " ".join(result.stdout.str().split())


def test_of_another_text(llmperf: Run, here: Path) -> None:
    (here / "mine.txt").write_text("a line of text, and another\n" * 20)
    assert store("--text=mine.txt") == 0
    result = llmperf(reads(AGAINST))
    result.assert_outcomes(failed=1)
    assert "is of other tokens: of 8 windows of mine.txt, by fake fake:model" in flat(result)
    assert llmperf(reads(f'{AGAINST}, text="mine.txt"')).ret == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 512}, "of a vocabulary of 512 tokens, that of fake:model has 32000"),
        ({"vocab_size": 32064}, "window_0 has the shape (32, 32000), not (32, 32064)"),
        ({"version": 2}, "is pytest-llmperf-logits 2, this release reads pytest-llmperf-logits 1"),
        ({"windows": "many"}, "no stored reference, or not all of one"),
        ({"window_tokens": 0}, "no stored reference, or not all of one (Expected `int` >= 4"),
    ],
)
def test_a_head_that_does_not_fit_is_named(
    llmperf: Run, here: Path, changes: dict[str, object], said: str
) -> None:
    assert store() == 0
    (here / f"{FILE}.copy").write_bytes((here / FILE).read_bytes())
    rewrite(here, **changes)
    result = llmperf(reads(AGAINST))
    result.assert_outcomes(failed=1)
    assert said in flat(result)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named_before_anything_is_timed(
    llmperf: Run, here: Path, keep: float
) -> None:
    assert store() == 0
    data = (here / FILE).read_bytes()
    (here / FILE).write_bytes(data[: int(len(data) * keep)])
    result = llmperf(reads(AGAINST))
    result.assert_outcomes(failed=1)
    assert f"{FILE}: no stored reference, or not all of one" in flat(result)
    assert "0 measurements" in flat(result)


def test_a_damaged_window_is_named(llmperf: Run, here: Path) -> None:
    assert store() == 0
    data = bytearray((here / FILE).read_bytes())
    middle = data.index(b"window_3.npy") + 200
    data[middle : middle + 20] = bytes(20)
    (here / FILE).write_bytes(data)
    result = llmperf(reads(AGAINST))
    result.assert_outcomes(failed=1)
    assert f"{FILE}: no stored reference, or not all of one" in flat(result)


def test_a_file_that_is_not_there_is_named_with_what_makes_it(llmperf: Run) -> None:
    result = llmperf(reads(AGAINST))
    result.assert_outcomes(failed=1)
    assert f"no such file; pytest-llmperf reference MODEL {FILE} makes one" in flat(result)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--text=/no/text"], 2, "no such file; 'shipped' is the one that comes with us"),
        (["-osharpness=Infinity"], 2, ""),
        (["-odisaster=raise", "-oat=load"], 4, "fake"),
        (["-ospeed=3"], 2, "speed"),
        (["--window-tokens=3"], 2, "window_tokens must be a whole number of at least 4, not 3"),
        (["--window-tokens=65"], 2, "windows are asked for of 65 tokens, the model's context hold"),
    ],
)
def test_what_goes_wrong_is_named_and_leaves_nothing(
    arguments: list[str], code: int, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store(*arguments) == code
    assert said in unfolded(capsys.readouterr().err)
    assert not list(here.glob(f"*{FILE}*"))


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reference", "fake:model", f"no/{FILE}", "--backend=fake"]) == 2
    assert "there is no folder" in unfolded(capsys.readouterr().err)


def say_nothing_read(*_: object) -> None:
    raise AssertionError("was loaded")


def test_a_target_that_is_a_folder_is_refused_before_anything_is_loaded(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / FILE).mkdir()
    monkeypatch.setattr("pytest_llmperf.cli.reference.Workbench", say_nothing_read)
    assert store() == 2
    assert f"{FILE} is a folder: name a file in it" in unfolded(capsys.readouterr().err)


def test_a_folder_that_may_not_be_written_to_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    monkeypatch.setattr("pytest_llmperf.cli.reference.Workbench", say_nothing_read)
    assert store() == 4
    assert f"{FILE} cannot be stored: " in unfolded(capsys.readouterr().err)


def test_a_full_disk_is_told_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array", fill)
    assert store() == 4
    assert f"{FILE} cannot be stored: " in unfolded(capsys.readouterr().err)
    assert not list(here.glob(f"*{FILE}*"))


def test_a_target_in_whose_place_nothing_can_be_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / f".{FILE}.tmp").mkdir()
    assert store() == 4
    assert f"{FILE} cannot be stored: " in unfolded(capsys.readouterr().err)
