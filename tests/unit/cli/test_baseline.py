"""Does ``pytest-llmperf baseline`` show what is accepted, and change only what it was told to?"""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import pytest

from pytest_llmperf import cli
from pytest_llmperf.gate.baseline import Line, PairKey
from pytest_llmperf.gate.baseline_file import BaselineStore
from pytest_llmperf.gate.past import current
from pytest_llmperf.history import History
from tests.unit.cli.baselines import (
    CHAT,
    CONFIG,
    HERE,
    LONG,
    MODULE,
    PREFILL,
    RAM,
    WIGGLE,
    Ask,
    of,
    session,
    sessions,
)
from tests.unit.gate.test_baseline import epoch

# Looking


def test_pairs_are_listed_with_their_numbers(store: BaselineStore, ask: Ask) -> None:
    code, out, _ = ask("list")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["sessions", "epoch", "centre", "noise", "mde", "latest"]
    assert lines[1:4] == [HERE, f"  {MODULE}", f"    test_chat[Q4_K_M] · {CONFIG}"]
    assert lines[4].split()[:5] == ["decode", "10", "0", "20.0", "tok/s"]
    assert lines[4].endswith("2026-11-11")
    assert lines[5].split()[:5] == ["prefill", "10", "0", "400", "tok/s"]
    assert lines[-1].split()[-2:] == ["–", "2026-11-03"]  # too young to find anything


def test_what_is_listed_is_what_the_judge_computes(store: BaselineStore, ask: Ask) -> None:
    seen = json.loads(ask("list", "--json")[1])["pairs"][0]["overview"]
    history = of(store, CHAT).history
    squares = sum((each.log_value - math.log(20)) ** 2 for each in history)
    sigma = math.sqrt((4 * 0.025**2 + squares) / (4 + 9))
    assert (seen["sessions"], seen["unit"]) == (10, "tok/s")
    assert seen["centre"] == pytest.approx(20, rel=1e-4)
    assert seen["noise"] == pytest.approx(sigma, rel=1e-3)
    assert 2 * sigma < seen["mde"] < 8 * sigma


def test_pairs_of_one_fingerprint_teach_each_other(store: BaselineStore, ask: Ask) -> None:
    def noise() -> float:
        return float(json.loads(ask("list", "--json")[1])["pairs"][0]["overview"]["noise"])

    alone = noise()
    for number in range(5):
        key = PairKey(f"test_{number}", "1", "decode_tps", CONFIG)
        store.update("tests/more.py", [epoch(key=key), *sessions(key, 10, 50.0)])
    pairs = {each["key"]["test"]: each for each in json.loads(ask("list", "--json")[1])["pairs"]}
    assert pairs[CHAT.test]["overview"]["noise"] < 0.7 * alone


def test_sizes_teach_nothing_about_speeds(store: BaselineStore, ask: Ask) -> None:
    before = json.loads(ask("list", "--json")[1])["pairs"][0]
    for number in range(5):
        key = PairKey(f"test_{number}", "1", "ram", CONFIG)
        store.update(MODULE, [epoch(key=key), *(session(key, each, 1.5) for each in range(10))])
    pairs = json.loads(ask("list", "--json")[1])["pairs"]
    assert before in pairs


def test_the_centre_is_a_speed_where_the_probe_explains_the_noise(
    store: BaselineStore, ask: Ask
) -> None:
    key = PairKey("test_probed", "1", "decode_tps", CONFIG)
    lines: list[Line] = [epoch(key=key)]
    for number in range(10):
        moved = 3 * WIGGLE[number % 5]
        probe = {"log_probe": 24 + moved, "probe_cv": 0.002}
        lines.append(session(key, number, 20 * math.exp(moved), **probe))
    store.update(MODULE, lines)
    seen = json.loads(ask("show", "probed", "--json")[1])["pairs"][0]["overview"]
    assert seen["centre"] == pytest.approx(20, rel=1e-3)
    assert seen["noise"] < 0.02


def test_a_short_session_at_the_end_hides_no_numbers(store: BaselineStore, ask: Ask) -> None:
    store.update(MODULE, [session(CHAT, 10, 20.0, n=3)])
    seen = json.loads(ask("list", "--json")[1])["pairs"][0]["overview"]
    assert seen["mde"] is not None
    assert seen["trouble"] is None


def test_sessions_are_those_of_the_current_epoch(store: BaselineStore, ask: Ask) -> None:
    store.update(MODULE, [epoch(1, key=CHAT), session(CHAT, 20, 30.0, epoch=1)])
    seen = json.loads(ask("list", "--json")[1])["pairs"][0]["overview"]
    assert (seen["epoch"], seen["sessions"], seen["mde"]) == (1, 1, None)
    assert seen["centre"] == pytest.approx(30, rel=1e-4)


def test_a_size_has_a_centre_and_no_noise(store: BaselineStore, ask: Ask) -> None:
    store.update(MODULE, [epoch(key=RAM), *sessions(RAM, 5, 1.5, n=1)])
    line = next(line for line in ask("list")[1].splitlines() if line.split()[0] == "RAM")
    assert line.split() == ["RAM", "5", "0", "1.50", "GiB", "–", "–", "2026-11-06"]
    assert "centre 1.50 GiB ±3 %\n" in ask("show", "chat")[1]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (LONG, 100.0, "a session's value is no number"),
        (PairKey("t", "1", "speed", CONFIG), 3.0, "this release does not know the metric"),
    ],
)
def test_what_cannot_be_computed_is_said(
    store: BaselineStore, ask: Ask, key: PairKey, value: float, said: str
) -> None:
    store.update(MODULE, [epoch(key=key), session(key, 5, 3.0, log_value=value)])
    assert said in ask("list")[1]
    assert said in ask("show", key.test)[1]


def test_only_this_machine_is_listed_unless_others_are_named(
    store: BaselineStore, root: Path, ask: Ask
) -> None:
    other = BaselineStore(root, "linux-aarch64-there")
    other.update(MODULE, [epoch(key=CHAT), *sessions(CHAT, 3, 9.0)])
    assert "there" not in ask("list")[1]
    assert HERE not in ask("list", "--fingerprint", "linux-aarch64-there")[1]
    assert {HERE, "linux-aarch64-there"} <= set(ask("list", "--fingerprint", "*")[1].split())


def test_no_baselines_is_nothing_and_says_what_there_is(
    root: Path, store: BaselineStore, ask: Ask
) -> None:
    code, out, err = ask("list", "--fingerprint", "elsewhere")
    assert (code, out) == (3, "")
    assert f"no baselines of elsewhere. There are some of {HERE}" in err
    store.forget(MODULE, [CHAT, PREFILL, LONG])
    assert ask("show", "chat")[0] == 3


def test_a_broken_file_is_an_error_with_its_place(store: BaselineStore, ask: Ask) -> None:
    path = store.path(MODULE)
    path.write_bytes(path.read_bytes() + b"<<<<<<< ours\n")
    last = len(path.read_bytes().splitlines())
    for command in (["list"], ["show", "chat"], ["accept", "chat", "--reason", "x"]):
        code, out, err = ask(*command)
        assert (code, out) == (4, "")
        assert f"test_chat.py.jsonl:{last}: merge-conflict marker" in err


def test_a_test_is_shown_with_its_series_and_its_acceptances(
    store: BaselineStore, ask: Ask
) -> None:
    lines: list[Line] = [epoch(1, key=CHAT, reason="a faster kernel", new=30.0)]
    lines += [session(CHAT, 20 + number, 30 + number / 10, epoch=1) for number in range(4)]
    lines += [session(CHAT, 24, 25.0, epoch=1, guard=("throttled",))]
    store.update(MODULE, lines)
    code, out, _ = ask("show", "chat[Q4")
    assert code == 0
    decode, prefill = out.split("\n\n" + MODULE)
    axis = [line for line in decode.splitlines() if "┤" in line]
    assert all("┊" in line for line in axis)
    older, newer = ["".join(line.split("┊")[side] for line in axis) for side in (0, 1)]
    assert (older.count("●"), newer.count("●"), newer.count("○")) == (10, 4, 1)
    assert "─" not in older
    assert "─" in newer
    assert "○ machine had changed" in decode
    assert "centre 30.1 tok/s ±3 %, noise" in decode
    assert "epoch 0  2026-11-02  21.9 tok/s, by ann at 0123abc: new driver" in decode
    assert "epoch 1  2026-11-02  20.0 → 30.0 tok/s, by ann at 0123abc: a faster kernel" in decode
    assert "prefill · " in prefill
    assert "test_long" not in out


def test_show_as_json_has_every_line(store: BaselineStore, ask: Ask) -> None:
    pairs = json.loads(ask("show", "long", "--json")[1])["pairs"]
    assert [pair["key"]["test"] for pair in pairs] == ["test_long"]
    assert [each["session"] for each in pairs[0]["baseline"]["sessions"]] == ["run-0", "run-1"]
    assert pairs[0]["baseline"]["epochs"][0]["reason"] == "new driver"


def test_a_seed_is_marked(store: BaselineStore, ask: Ask) -> None:
    key = PairKey("test_new", "1", "decode_tps", CONFIG)
    store.update(MODULE, [epoch(key=key), *sessions(key, 5, 7.0, seeded=True)])
    out = ask("show", "test_new")[1]
    assert out.count("◆") == 5 + 1


@pytest.mark.parametrize("command", [["show"], ["accept", "--reason", "x"], ["prune", "--yes"]])
def test_a_pattern_without_a_match_names_near_tests(
    store: BaselineStore, ask: Ask, command: list[str]
) -> None:
    before = store.path(MODULE).read_bytes()
    code, out, err = ask(*command, "test_lnog")
    assert (code, out) == (2, "")
    assert f"no test has 'test_lnog' in its name; near: {MODULE}::test_long," in err
    assert store.path(MODULE).read_bytes() == before


def test_it_fits_80_columns_and_a_terminal_without_unicode(
    store: BaselineStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = PairKey("test_日本[" + "long-" * 30 + "]", "warm", "prefill_tps", CONFIG + " x=y" * 20)
    store.update(MODULE, [epoch(key=key, reason="so " * 60), *sessions(key, 30, 123456.0)])
    sink = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", sink)
    for command in (["list"], ["show", "test"]):
        assert cli.main(["baseline", *command, "--baselines", str(root)]) == 0
    sink.seek(0)
    assert max(map(len, sink.read().splitlines())) <= 80
    bare = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", bare)
    for command in (["list"], ["show", "test"], ["accept", "long", "--reason", "→"]):
        assert cli.main(["baseline", *command, "--baselines", str(root)]) == 0
    bare.seek(0)
    told = bare.read()
    assert "\\u65e5" in told
    assert "|...." in told


# Changing


def test_the_latest_session_becomes_the_first_of_a_new_epoch(
    store: BaselineStore, ask: Ask
) -> None:
    store.update(MODULE, [session(CHAT, 10, 15.0, guard=("slower machine",))])
    prefill, long = of(store, PREFILL), of(store, LONG)
    assert ask("list", "--json")[0] == 0
    code, out, _ = ask("accept", "test_long", "--reason", "  a smaller model is wanted ")
    assert code == 0
    assert "by ann at c1: a smaller model is" in out
    assert of(store, CHAT).next_epoch == 1

    assert ask("accept", "test_chat[", "--reason", "thermal paste")[0] == 0
    after = of(store, CHAT)
    assert [each.epoch for each in after.sessions] == [0] * 10 + [1]
    accepted = after.epochs[1]
    assert (accepted.reason, accepted.commit, accepted.new) == ("thermal paste", "c10", 15.0)
    assert accepted.accepted_by == "ann"
    assert accepted.old == pytest.approx(20, rel=1e-4)
    moved = after.sessions[-1]
    assert (moved.session, moved.value, moved.guard) == ("run-10", 15.0, ())
    assert [each.log_value for each in current(after.history)] == [moved.log_value]
    assert of(store, PREFILL).sessions[:9] == prefill.sessions[:9]
    assert of(store, LONG).sessions[0] == long.sessions[0]


def test_the_old_normal_is_that_of_the_sessions_before(store: BaselineStore, ask: Ask) -> None:
    store.update(MODULE, [session(LONG, 2, 2.5)])
    assert ask("accept", "long", "--reason", "x")[0] == 0
    assert of(store, LONG).epochs[1].old == pytest.approx(3 * math.exp(0.005), rel=1e-4)


def test_accepting_twice_changes_nothing_the_second_time(store: BaselineStore, ask: Ask) -> None:
    first = ask("accept", "long", "--reason", "x")
    data = store.path(MODULE).read_bytes()
    second = ask("accept", "long", "--reason", "x")
    assert first[1].startswith(f"accepted: {MODULE}::test_long decode_tps")
    assert second[0] == 0
    assert second[1].startswith("already the normal, nothing is newer:")
    assert store.path(MODULE).read_bytes() == data


def test_an_acceptance_is_in_the_history(
    store: BaselineStore, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask("accept", "long", "--reason", "a faster kernel")[0] == 0
    with History.open(f"sqlite:///{tmp_path / 'history.db'}") as history:
        (kept,) = history.acceptances()
    assert (kept.test, kept.metric, kept.reason, kept.by) == (
        "test_long", "decode_tps", "a faster kernel", "ann",
    )  # fmt: skip
    monkeypatch.setenv("LLMPERF_HISTORY", f"sqlite:///{tmp_path / 'none' / 'history.db'}")
    (tmp_path / "none").write_text("a file where the folder should be")
    code, out, err = ask("accept", "chat[Q4", "--reason", "x")
    assert code == 0
    assert out.startswith("accepted: ")
    assert err.startswith("note: history sqlite:///")


def test_accept_as_json(store: BaselineStore, ask: Ask) -> None:
    told = json.loads(ask("accept", "test_", "--reason", "x", "--json")[1])
    assert [each["line"]["epoch"] for each in told["accepted"]] == [1, 1, 1]
    assert told["already_normal"] == []
    assert (
        len(json.loads(ask("accept", "long", "--reason", "x", "--json")[1])["already_normal"]) == 1
    )


def test_a_lone_seed_that_is_accepted_is_one_session(store: BaselineStore, ask: Ask) -> None:
    key = PairKey("test_new", "1", "decode_tps", CONFIG)
    store.update(MODULE, [epoch(key=key), *sessions(key, 5, 7.0, seeded=True)])
    assert ask("accept", "test_new", "--reason", "x")[0] == 0
    assert [each.seeded for each in of(store, key).sessions] == [True] * 4 + [False]


def test_a_lock_that_is_held_is_an_error_of_the_tool(
    store: BaselineStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(self: BaselineStore, root: Path, fingerprint: str) -> None:
        make(self, root, fingerprint, lock_timeout_s=0.1)

    make = BaselineStore.__init__
    with store._locked():
        monkeypatch.setattr(BaselineStore, "__init__", quick)
        code, _, err = ask("accept", "chat", "--reason", "x")
    assert code == 4
    assert "another run has held this lock" in err


def test_prune_only_lists_until_it_is_told_to(store: BaselineStore, ask: Ask) -> None:
    before = store.path(MODULE).read_bytes()
    code, out, _ = ask("prune", "test_chat[")
    assert code == 0
    assert out.count("would forget: ") == 2
    assert "nothing was changed; to forget them, add --yes" in out
    assert store.path(MODULE).read_bytes() == before
    code, out, _ = ask("prune", "test_chat[", "--yes")
    assert (code, out.count("forgot: ")) == (0, 2)
    assert list(store.read(MODULE).pairs) == [LONG]


def test_tests_that_are_gone_are_forgotten(store: BaselineStore, ask: Ask, tmp_path: Path) -> None:
    collected = tmp_path / "collected.txt"
    collected.write_text(f"{MODULE}::test_chat[Q4_K_M]\n\n1 test collected in 0.01s\n")
    told = json.loads(ask("prune", "--missing", collected, "--yes", "--json")[1])
    assert told["forgotten"] is True
    assert [pair["key"]["test"] for pair in told["pairs"]] == ["test_long"]
    assert list(store.read(MODULE).pairs) == [CHAT, PREFILL]
    assert "nothing to forget" in ask("prune", "--missing", collected, "--yes")[1]


def test_tests_are_forgotten_by_their_node_ids(store: BaselineStore, ask: Ask) -> None:
    code, _, err = ask("prune", "--yes", "--test", f"{MODULE}::test_long", "tests/no.py::test_x")
    assert code == 2
    assert "tests/no.py::test_x has no baseline; near: " in err
    assert len(store.read(MODULE).pairs) == 3
    assert ask("prune", "--yes", "--test", f"{MODULE}::test_long")[0] == 0
    assert LONG not in store.read(MODULE).pairs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no tests ran in 0.00s\n", "no test is in it"),
        (f"{MODULE}::test_long\nERROR tests/x.py - SyntaxError\n", "is not whole: ERROR tests/x"),
        (None, "cannot be read"),
    ],
)
def test_a_collection_that_may_lack_tests_forgets_nothing(
    store: BaselineStore, ask: Ask, tmp_path: Path, text: str | None, said: str
) -> None:
    collected = tmp_path / "collected.txt"
    if text is not None:
        collected.write_text(text)
    code, _, err = ask("prune", "--missing", collected, "--yes")
    assert code == 2
    assert said in err
    assert len(store.read(MODULE).pairs) == 3


def test_prune_wants_to_know_what(store: BaselineStore, ask: Ask) -> None:
    code, _, err = ask("prune", "--yes")
    assert code == 2
    assert "say what to forget" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["show"],
        ["accept", "chat"],
        ["accept", "chat", "--reason", "  "],
        ["accept", "chat", "--reason", "tests"],
        ["accept", "--reason", "a.py::b", "chat"],
        ["prune", "--test", "x", "--missing", "y"],
        ["export", "x.json"],
    ],
)
def test_a_bad_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["baseline", *arguments])
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err
