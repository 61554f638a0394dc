"""Do whole results become baselines, and go elsewhere, as they are?"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_llmperf.gate import Verdict
from pytest_llmperf.gate.baseline import PairKey
from pytest_llmperf.gate.baseline_file import BaselineStore
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.summary import InvocationSummary
from pytest_llmperf.gate.verdict import Judgement
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.report.result import RunResult, write_json
from tests.unit.cli.baselines import (
    CHAT,
    CONFIG,
    HERE,
    LONG,
    MODULE,
    Ask,
    of,
    unfolded,
)
from tests.unit.gate.test_baseline import epoch
from tests.unit.gate.test_contract import measurement
from tests.unit.report.test_result import judge_it, one_test, run_result

Runs = Callable[..., list[list[str]]]


def pair(key: PairKey = CHAT, value: float = 20.0, **changes: Any) -> PairResult:
    look = InvocationSummary(log_value=math.log(value), spread=0.004, n=10)
    result = PairResult(
        module=MODULE,
        key=key,
        fingerprint=HERE,
        is_gated=False,
        verdict=Verdict.NO_BASELINE,
        tolerance=0.03,
        judgement=Judgement(verdict=Verdict.NO_BASELINE),
        normal=None,
        since=None,
        value=value,
        looks=[look],
        conditions={"cpu_pressure": 0.1},
        software={"llama-cpp": "0.3.36"},
    )
    return msgspec.structs.replace(result, **changes)


def result(root: Path, *pairs: PairResult, verdict: Verdict = Verdict.PASSED) -> RunResult:
    """One run that measured these pairs in one test."""
    judged = judge_it(measurement(decode_tps=20.0))
    judged = msgspec.structs.replace(judged, pairs=list(pairs), verdict=verdict)
    return msgspec.structs.replace(run_result(root / "machine"), tests=[one_test(judged)])


def file_of(root: Path, *pairs: PairResult, **others: Any) -> Path:
    path = root / "result.json"
    write_json(result(root, *pairs, **others), path)
    return path


def test_a_result_is_imported_as_one_session_however_often(
    root: Path, tmp_path: Path, ask: Ask
) -> None:
    path = file_of(tmp_path, pair(), pair(LONG, 3.0, normal=99.0))
    code, out, _ = ask("import", path, "--commit", "fedcba")
    assert code == 0
    assert unfolded(out).startswith("recorded: 2 pairs in ")
    assert "session 20261120T120000-" in unfolded(out)
    code, out, _ = ask("import", path, "--commit", "fedcba")
    assert code == 0
    assert unfolded(out).startswith("already recorded in ")
    assert "session 20261120T120000-" in unfolded(out)
    store = BaselineStore(root, HERE)
    kept = of(store, CHAT)
    assert [(each.value, each.commit, each.n) for each in kept.sessions] == [(20.0, "fedcba", 10)]
    assert kept.sessions[0].date == datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
    assert kept.sessions[0].software == {"llama-cpp": "0.3.36"}
    assert [(each.epoch, each.old) for each in of(store, LONG).epochs] == [(0, None)]


def test_an_imported_session_joins_the_current_epoch(
    store: BaselineStore, tmp_path: Path, ask: Ask
) -> None:
    told = json.loads(ask("import", file_of(tmp_path, pair(value=19.0)), "--json")[1])
    after = of(store, CHAT)
    assert after.sessions[-1].session == told["session"]
    assert (len(after.sessions), len(after.epochs)) == (11, 1)


def test_what_is_older_than_its_normal_is_refused_and_the_rest_recorded(
    store: BaselineStore, tmp_path: Path, ask: Ask
) -> None:
    later = datetime.datetime(2026, 11, 20, 12, 30, tzinfo=datetime.UTC)
    store.update(MODULE, [epoch(1, key=CHAT, date=later, reason="a faster kernel")])
    before = of(store, CHAT)
    path = file_of(tmp_path, pair(), pair(LONG, 3.0))
    code, out, err = ask("import", path)
    assert code == 2
    assert unfolded(out).startswith("recorded: 1 pair in ")
    assert f"not recorded: {CHAT.text}: measured at 2026-11-20 12:00:00 UTC, before " in err
    assert "epoch 1 began at 2026-11-20 12:30:00 UTC (accepted by ann: a faster kernel)" in err
    assert of(store, CHAT) == before
    assert len(of(store, LONG).sessions) == 3


def test_a_file_that_was_imported_stays_in_the_epoch_in_which_it_was(
    store: BaselineStore, tmp_path: Path, ask: Ask
) -> None:
    path = file_of(tmp_path, pair())
    assert ask("import", path)[0] == 0
    later = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
    store.update(MODULE, [epoch(1, key=CHAT, date=later)])
    before = of(store, CHAT)
    code, out, _ = ask("import", path)
    assert code == 0
    assert out.startswith("already recorded in")
    assert of(store, CHAT) == before
    assert json.loads(ask("import", path, "--json")[1])["recorded"] == []


def test_a_measurement_that_is_invalid_is_not_imported(
    root: Path, tmp_path: Path, ask: Ask
) -> None:
    code, _, err = ask("import", file_of(tmp_path, pair(), verdict=Verdict.INVALID))
    assert code == 3
    assert "no pair was measured in this run" in err
    assert not root.exists()


@pytest.mark.parametrize("command", ["import", "export"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "no result of --llmperf-json: Input data was truncated"),
        ('{"benchmarks": []}', "no result of --llmperf-json: Object missing required field"),
        ('{"format": "pytest-llmperf-result", "version": 99}', "this release reads"),
        ('{"format": "pytest-llmperf-result", "version": 2}', "no result of --llmperf-json"),
        ("[" * 100_000, "no result of --llmperf-json"),
    ],
)
def test_a_foreign_file_is_an_error_of_the_tool(
    root: Path, tmp_path: Path, ask: Ask, command: str, text: str | None, said: str
) -> None:
    path = tmp_path / "foreign.json"
    if text is not None:
        path.write_text(text)
    out = tmp_path / "out.json"
    code, _, err = ask(command, path, *(["-o", out] if command == "export" else []))
    assert code == 4
    assert err.startswith(f"pytest-llmperf baseline {command}: {path}: ")
    assert said in err
    assert not out.exists()
    assert not root.exists()


def test_a_result_is_exported(tmp_path: Path, ask: Ask) -> None:
    out = tmp_path / "out.json"
    path = file_of(tmp_path)
    assert ask("export", path, "-o", out, "--commit", "fedcba") == (0, f"written: {out}\n", "")
    told = json.loads(out.read_text())
    assert told["benchmarks"][0]["stats"]["median"] == 0.05
    assert told["commit_info"]["id"] == "fedcba"
    code, _, err = ask("export", path, "-o", tmp_path / "no" / "out.json")
    assert code == 4
    assert "cannot be written" in err


# Seeding


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Stands for pytest: each run leaves the next result and exit code; the command lines."""
    asked: list[list[str]] = []

    def script(results: Sequence[RunResult], exit_codes: Sequence[int] = ()) -> list[list[str]]:
        def listen(command: list[str], _: object) -> tuple[int, str]:
            number = len(asked)
            asked.append(command)
            out = next(each for each in command if each.startswith("--llmperf-json="))
            if results:
                write_json(results[number], Path(out.partition("=")[2]))
            code = exit_codes[number] if exit_codes else 0
            return code, "what pytest said\n"

        monkeypatch.setattr("pytest_llmperf.cli.baseline_seed.listen", listen)
        return asked

    return script


SEEDS = [7.0, 7.2, 7.1, 6.9, 7.05]
NEW = PairKey("test_new", "1", "decode_tps", CONFIG)


def seeds(tmp_path: Path, *more: PairResult) -> list[RunResult]:
    return [result(tmp_path / str(index), pair(NEW, value), *more)
            for index, value in enumerate(SEEDS)]  # fmt: skip


def test_five_runs_are_a_seed(store: BaselineStore, tmp_path: Path, ask: Ask, runs: Runs) -> None:
    asked = runs(seeds(tmp_path, pair(CHAT, 20.0)), [0, 1, 0, 0, 0])
    before = of(store, CHAT)
    code, out, err = ask("seed", "--", "-k", "new", "tests")
    assert code == 0
    assert len(asked) == 5
    assert all(command[-3:] == ["-k", "new", "tests"] for command in asked)
    assert "run 5 of 5: 2 pairs" in err
    assert f"seeded with 5 runs: {MODULE}::test_new decode_tps" in out
    assert f"left alone, it has a baseline: {MODULE}::test_chat[Q4_K_M]\n  decode_tps" in out
    made = of(store, NEW)
    assert [each.value for each in made.sessions] == SEEDS
    assert {(each.seeded, each.epoch) for each in made.sessions} == {(True, 0)}
    assert len({each.session for each in made.sessions}) == 5
    first = made.epochs[0]
    assert (first.reason, first.old, first.new, first.epoch) == ("seed", None, 7.05, 0)
    assert of(store, CHAT) == before


def test_the_runs_are_not_compared_with_what_is_accepted(
    root: Path, tmp_path: Path, ask: Ask, runs: Runs
) -> None:
    asked = runs(seeds(tmp_path))
    assert ask("seed")[0] == 0
    folders = {each for command in asked for each in command if "llmperf-baselines" in each}
    assert len(folders) == 5
    assert not any(str(root) in each for each in folders)


def test_a_pair_that_a_run_lacks_is_left_out(
    root: Path, tmp_path: Path, ask: Ask, runs: Runs
) -> None:
    results = seeds(tmp_path, pair(LONG, 3.0))
    results[3] = result(tmp_path / "lacks", pair(NEW, 7.0))
    runs(results)
    told = json.loads(ask("seed", "--json")[1])
    assert [each["key"]["test"] for each in told["seeded"]] == ["test_new"]
    assert [each["key"]["test"] for each in told["left_out"]] == ["test_long"]
    assert list(BaselineStore(root, HERE).read(MODULE).pairs) == [NEW]


@pytest.mark.parametrize(
    ("exit_codes", "said"),
    [
        ([0, 0, 2], "run 3 of 5 failed, nothing was recorded: pytest ended with exit code 2"),
        ([0, 0, 0, 1], "run 4 of 5 measured nothing: pytest ended with exit code 1"),
    ],
)
def test_a_run_that_measured_nothing_ends_it(
    root: Path, tmp_path: Path, ask: Ask, runs: Runs, exit_codes: list[int], said: str
) -> None:
    results = seeds(tmp_path)
    results[3] = result(tmp_path / "empty")
    runs(results, exit_codes)
    code, _, err = ask("seed")
    assert code == 4
    assert said in err
    assert "what pytest said" in err
    assert not root.exists()


def test_a_run_without_a_result_ends_it(root: Path, ask: Ask, runs: Runs) -> None:
    runs([])
    code, _, err = ask("seed")
    assert code == 4
    assert "run 1 of 5 failed" in err
    assert not root.exists()


def test_a_real_run_is_seeded(
    tmp_path: Path, root: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMPERF_HISTORY", "off")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # a scripted engine waits for nobody
    monkeypatch.setenv("LLMPERF_RECORD", "1")  # would leave a baseline after the first run
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "def test_speed(load_model, measure):\n"
        "    model = load_model('synthetic:any', backend='fake', decode_tps=400.0)\n"
        "    measure(model, prompt_tokens=8, new_tokens=8)\n"
    )
    code, _, err = ask("seed", "test_it.py", "--llmperf-samples=5", "-p", "no:cacheprovider")
    assert (code, err.count(" pairs, ")) == (0, 5)
    store = BaselineStore(root, detect().cpu_fingerprint)
    pairs = store.read("test_it.py").pairs
    decode = next(each for key, each in pairs.items() if key.metric == "decode_tps")
    assert [each.seeded for each in decode.sessions] == [True] * 5
    assert decode.sessions[0].value == pytest.approx(400)
    assert [each.reason for each in decode.epochs] == ["seed"]
    assert not (tmp_path / "none").exists()
    code, out, _ = ask("list", "--fingerprint", "*")
    assert code == 0
    assert "400 tok/s" in out
