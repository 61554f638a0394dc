"""Does a run compare with earlier sessions, look again at what is suspect, and write when told?"""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import TEST, Session, lines


def test_nothing_is_written_unasked(session: Session, pytester: pytest.Pytester) -> None:
    assert session().ret == 0
    assert not (pytester.path / "baselines").exists()


def test_a_first_session_is_no_baseline_and_red_under_strict(session: Session) -> None:
    result = session()
    result.stdout.fnmatch_lines(
        [
            "llmperf: 1 measurement, 0 budgets judged: 1 without baseline",
            "  without baseline 3×: 0 of 3 sessions of history; record more with",
            "    --llmperf-record",
        ]
    )
    result = session("--llmperf-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*decode_tps: 0 of 3 sessions of history"])


def test_recorded_sessions_are_sorted_and_told(session: Session, pytester: pytest.Pytester) -> None:
    for _ in range(2):
        result = session("--llmperf-record")
        result.stdout.fnmatch_lines(["recorded: 3 pairs in baselines"])
    told = lines(pytester.path, "session")
    assert [line["key"]["metric"] for line in told] == [
        "decode_tps", "decode_tps", "prefill_tps", "prefill_tps", "ram", "ram",
    ]  # fmt: skip
    assert [line["reason"] for line in lines(pytester.path, "epoch")] == ["first session"] * 3


@pytest.mark.usefixtures("history")
def test_the_same_build_passes_and_says_what_it_would_find(session: Session) -> None:
    result = session(pace="0.99")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["* −*.* %  *−*.* %*", "* mde *% *mde *%", "*3 baselines compared: 1 passed"]
    )


@pytest.mark.usefixtures("history")
def test_a_loss_is_looked_at_again_and_red(session: Session) -> None:
    result = session(pace="0.87")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "perf regressed: decode * tok/s is 13 % below its baseline, 3 % is tolerated",
            "perf regressed: prefill * tok/s is 13 % below its baseline, 3 % is tolerated",
            "  measured   decode 8* tok/s (median of 10, *), 512+128 tokens",
            "  measured   prefill 8* tok/s (median of 10, *), 512+128 tokens",
            "  confirmed  in 5 fresh processes: decode 8*, 8*, 8*, 8*, 8*",
            "  confirmed  in 5 fresh processes: prefill 8*, 8*, 8*, 8*, 8*",
            "  baseline   decode * tok/s (20*, 10 sessions) → −13 %, REGRESSED",
            "  certainty  −* % to −* %; losses of * % are found four times in five",
            "  baseline   prefill * tok/s (20*, 10 sessions) → −13 %, REGRESSED",
            "  if wanted  --llmperf-accept=WHY makes it the new normal",
            "*1 regressed",
            "  looked again at 1 measurement: * s more",
        ]
    )


@pytest.mark.usefixtures("history")
def test_a_seed_is_not_called_sessions(session: Session, pytester: pytest.Pytester) -> None:
    (path,) = pytester.path.glob("baselines/*/test_it.py.jsonl")
    kept = path.read_text()
    path.write_text(kept.replace('"kind":"session"', '"kind":"session","seeded":true'))
    session(pace="0.7").stdout.fnmatch_lines(
        ["  baseline   decode * tok/s (20*, a seed of 10 runs) → −30 %,"]
    )


@pytest.mark.usefixtures("history")
def test_a_slow_first_worker_alone_is_no_loss(session: Session) -> None:
    result = session(pace="0.9 1")
    result.assert_outcomes(passed=1)
    # The mean of six, as its change is.
    result.stdout.fnmatch_lines(["* test_chat * 98.*  98* PASSED"])
    result.stdout.fnmatch_lines(["  looked again at 1 measurement: * s more"])


@pytest.mark.usefixtures("history")
def test_without_a_second_look_a_suspect_is_undecided(session: Session) -> None:
    assert session("--llmperf-second-look=off", pace="0.87").ret == 0
    result = session("--llmperf-second-look=off", "--llmperf-strict", pace="0.87")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*decode_tps: suspect, and not looked at a second time"])


@pytest.mark.usefixtures("history")
def test_a_gain_passes_and_is_told(session: Session) -> None:
    result = session(pace="1.2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*+20 %*",
            "*1 improved",
            "  improved 2×: accept it with --llmperf-accept=WHY, or the next loss hides in",
        ]
    )


@pytest.mark.usefixtures("history")
def test_accepting_where_nothing_changed_says_so(
    session: Session, pytester: pytest.Pytester
) -> None:
    session("--llmperf-accept=a hunch").stdout.fnmatch_lines(
        [
            "recorded: 3 pairs in baselines",
            "accepted: nothing, no pair got slower or faster for certain",
        ]
    )
    assert [line["reason"] for line in lines(pytester.path, "epoch")] == ["first session"] * 3


@pytest.mark.usefixtures("history")
def test_an_accepted_loss_is_the_new_normal_with_its_reason(
    session: Session, pytester: pytest.Pytester
) -> None:
    result = session("--llmperf-accept=safer kernels", pace="0.87")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["recorded: 3 pairs in baselines, 2 accepted as the new normal"])
    assert [line["reason"] for line in lines(pytester.path, "epoch")] == [
        "first session", "safer kernels", "first session", "safer kernels", "first session",
    ]  # fmt: skip
    for _ in range(2):
        assert session("--llmperf-record", pace="0.87").ret == 0
    session("--llmperf-strict", pace="0.87").assert_outcomes(passed=1)


def test_a_test_without_tolerance_is_gated_once_it_has_a_baseline(session: Session) -> None:
    source = TEST.replace('@pytest.mark.perf(max_regression="3%")', "@pytest.mark.perf(min_tps=1)")
    session(source=source).stdout.fnmatch_lines(["*1 budget judged: 1 passed"])
    for _ in range(4):
        session("--llmperf-record", source=source)
    session(source=source, pace="0.8").assert_outcomes(failed=1)


@pytest.mark.usefixtures("history")
def test_a_broken_baseline_is_an_error_with_file_and_line(
    session: Session, pytester: pytest.Pytester
) -> None:
    (path,) = pytester.path.glob("baselines/*/test_it.py.jsonl")
    path.write_text(path.read_text().replace('"kind":"session"', "<<<<<<< HEAD", 1))
    result = session()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{path.name}:3: not a line of baselines*"])


@pytest.mark.usefixtures("history")
def test_baselines_that_cannot_be_written_end_the_run_as_an_error(
    session: Session, pytester: pytest.Pytester
) -> None:
    (folder,) = pytester.path.glob("baselines/*")
    (folder / ".lock").unlink()
    (folder / ".lock").mkdir()
    result = session("--llmperf-record")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["note: baselines: *cannot be written*"])


@pytest.mark.usefixtures("history")
def test_under_xdist_the_controller_records(session: Session, pytester: pytest.Pytester) -> None:
    result = session("--llmperf-record", "-n", "2", pace="0.87")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["recorded: 3 pairs in baselines"])
    assert len(lines(pytester.path, "session")) == 33


@pytest.mark.usefixtures("history")
def test_an_invalid_measurement_is_not_recorded(
    session: Session, pytester: pytest.Pytester
) -> None:
    source = TEST.replace("noise_cv=0.002", "noise_cv=0.002, missing_tokens=1")
    session("--llmperf-record", source=source).assert_outcomes(failed=1)
    assert len(lines(pytester.path, "session")) == 30


@pytest.mark.usefixtures("history")
def test_a_baseline_whose_test_is_gone_is_named_and_red_under_strict(session: Session) -> None:
    source = TEST.replace("test_chat", "test_talk").replace('max_regression="3%"', "min_tps=1")
    told = "a baseline has no test any more: test_it.py::test_chat (pytest-llmperf baseline prune*)"
    said = f"note: {told}"
    result = session(source=source)
    assert result.ret == 0
    result.stdout.fnmatch_lines([said])
    result = session("--llmperf-strict", source=source)
    assert result.ret == 1
    said = f"note: red under --llmperf-strict: {told}"
    result.stdout.fnmatch_lines([said])
    # What was not asked for is not gone.
    for part in (["-k", "talk"], ["test_it.py::test_talk"]):
        both = source + TEST.replace("import pytest", "")
        session("--llmperf-strict", *part, source=both).stdout.no_fnmatch_line(said)
    session("--llmperf-strict", "test_it.py::test_talk", source=source).stdout.no_fnmatch_line(said)


@pytest.mark.usefixtures("history")
def test_under_xdist_a_baseline_without_a_test_is_named_as_well(session: Session) -> None:
    source = TEST.replace("test_chat", "test_talk").replace('max_regression="3%"', "min_tps=1")
    result = session("--llmperf-strict", "-n", "2", source=source)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["note: *a baseline has no test any more: test_it.py::test_chat *"])


@pytest.mark.usefixtures("history")
def test_what_a_run_of_the_last_failures_leaves_out_is_not_gone(session: Session) -> None:
    bad = TEST.replace("import pytest", "").replace("test_chat", "test_bad")
    source = TEST + bad.replace('max_regression="3%"', "min_tps=1e9")
    assert session(source=source).ret == 1
    result = session("--lf", source=source)
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*has no test any more*")


@pytest.mark.usefixtures("history")
def test_another_configuration_says_that_its_baseline_is_of_another(session: Session) -> None:
    """A budget alone would pass: half the speed, and nobody was told."""
    moved = TEST.replace('max_regression="3%"', "min_tps=1").replace("noise", "n_ctx=2048, noise")
    result = session("--llmperf-strict", source=moved, pace="0.5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*its baseline is of another configuration, *n_ctx=2048*"])


@pytest.mark.usefixtures("history")
def test_a_baseline_that_cannot_be_read_costs_no_number_and_hides_no_failure(
    session: Session, pytester: pytest.Pytester
) -> None:
    (path,) = pytester.path.glob("baselines/*/*.jsonl")
    path.write_text(path.read_text() + "<<<<<<< HEAD\n")
    result = session("--llmperf-json=out.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*.jsonl:*: merge-conflict marker*"])
    result.stdout.no_fnmatch_line("*judging*")
    (test,) = json.loads((pytester.path / "out.json").read_text())["tests"]
    assert test["measurements"][0]["verdict"] == "INCONCLUSIVE"
    assert test["measurements"][0]["measurement"]["metrics"]["decode_tps"]["median"] > 0
    result = session(source=TEST + "    assert 1 == 2, 'my own failure'\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*my own failure*", "*merge-conflict marker*"])


@pytest.mark.usefixtures("history")
def test_one_dead_fresh_worker_leaves_the_others_to_judge(session: Session) -> None:
    dies = TEST.replace('pace_file="pace"', 'pace_file="pace", disaster="sigkill", in_invocation=2')
    for _ in range(5):
        assert session("--llmperf-record", source=dies).ret == 0
    result = session(source=dies, pace="0.6")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["perf regressed: *", "note: *second look 2 of 5: fake worker killed by SIGKILL*"]
    )


def test_memory_that_grew_is_confirmed_once_and_red(
    session: Session, pytester: pytest.Pytester
) -> None:
    """The engine takes as many MiB as a file says: an option would make another baseline."""
    source = TEST.replace('pace_file="pace"', 'ram_file="ram"')
    for mib in ("100", "101", "99", "100"):
        (pytester.path / "ram").write_text(mib)
        assert session("--llmperf-record", source=source).ret == 0
    (pytester.path / "ram").write_text("140")
    result = session(source=source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "perf regressed: RAM 0.1* GiB is * % above its baseline, 3 % is tolerated",
            "  baseline   0.1* GiB (20*, 4 sessions) → +* %, REGRESSED",
            "  looked again at 1 measurement: * s more",
        ]
    )
