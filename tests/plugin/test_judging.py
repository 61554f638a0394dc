"""Does a test end as its verdict says, and does everything else go through untouched?"""

import pytest

import pytest_llmperf.backends.llama_cpp  # noqa: F401 - so that a test can change it
from tests.plugin.conftest import Run

FAST = """
@pytest.mark.perf(min_tps=50)
def test_one(load_model, measure):
    measure(load(load_model))
"""
SLOW = FAST.replace("50", "200")
UNJUDGED = FAST.replace("@pytest.mark.perf(min_tps=50)", "")


def test_within_budget_passes(llmperf: Run) -> None:
    result = llmperf(FAST)
    assert result.ret == 0
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*1 measurement, 1 budget judged: 1 passed"])


def test_over_budget_fails_in_the_promised_form(llmperf: Run) -> None:
    result = llmperf(SLOW)
    assert result.ret == 1
    text = result.stdout.str()
    failure = text.partition("_ test_one _")[2].partition("= llmperf =")[0].splitlines()[1:-1]
    assert len(failure) <= 12
    assert failure[0] == "perf budget broken: decode 100 tok/s < min_tps=200"
    assert failure[1].startswith("  measured   100 tok/s (median of 10, 100–100), 512+128 tokens")
    assert failure[2] == "  engine     fake 1, fake:model"
    assert failure[3].startswith("  machine    ")
    assert "Traceback" not in text


def test_every_broken_budget_is_shown(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=200, max_ttft_p95_ms=10, max_load_s=60)
def test_one(load_model, measure):
    measure(load(load_model))
""")
    result.stdout.fnmatch_lines(
        [
            "perf budget broken: decode 100 tok/s < min_tps=200",
            "perf budget broken: first token p95 512 ms > max_ttft_p95_ms=10",
        ]
    )
    result.stdout.no_fnmatch_line("*max_load_s*")


@pytest.mark.parametrize(("speeds", "passes"), [("[95.0, 120.0]", True), ("[105.0, 80.0]", False)])
def test_near_the_limit_a_fresh_process_decides_with(
    llmperf: Run, speeds: str, passes: bool
) -> None:
    result = llmperf(f"""
@pytest.mark.perf(min_tps=100)
def test_one(load_model, measure):
    measure(load(load_model, decode_tps={speeds}))
""")
    assert (result.ret == 0) == passes
    if not passes:
        result.stdout.fnmatch_lines(
            [
                "perf budget broken: decode 92.5 tok/s (median of two processes) < min_tps=100",
                "  confirmed  in a fresh process: decode 80.0 tok/s",
            ]
        )


def test_second_look_can_be_switched_off(llmperf: Run) -> None:
    source = """
@pytest.mark.perf(min_tps=100)
def test_one(load_model, measure):
    measure(load(load_model, decode_tps=[95.0, 120.0]))
"""
    assert llmperf(source, "--llmperf-second-look=off").ret == 1


def test_body_s_own_failure_keeps_its_traceback(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=200)
def test_one(load_model, measure):
    result = measure(load(load_model))
    assert result.decode_tps.median == 7, "as I said"
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*assert result.decode_tps.median == 7*", "*AssertionError: as I said*"]
    )
    result.stdout.fnmatch_lines(
        ["*OVER_BUDGET (the test's body did not return)*", "decode 100 tok/s"]
    )
    result.stdout.no_fnmatch_line("*perf budget broken*")


def test_skip_and_xfail_in_the_body_stay_what_they_are(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=200)
def test_skip(load_model, measure):
    measure(load(load_model))
    pytest.skip("not today")

@pytest.mark.xfail(reason="known")
@pytest.mark.perf(min_tps=200)
def test_xfail(load_model, measure):
    measure(load(load_model))
""")
    result.assert_outcomes(skipped=1, xfailed=1)


def test_interrupt_in_the_body_is_not_judged(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=200)
def test_one(load_model, measure):
    measure(load(load_model))
    raise KeyboardInterrupt
""", apart=True)  # fmt: skip
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.no_fnmatch_line("*perf budget broken*")


@pytest.mark.parametrize(("script", "count"), [("missing_tokens=3", 125), ("extra_tokens=3", 131)])
def test_wrong_number_of_tokens_is_invalid(llmperf: Run, script: str, count: int) -> None:
    result = llmperf(f"""
@pytest.mark.perf(min_tps=1)
def test_one(load_model, measure):
    measure(load(load_model, {script}))
""")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [f"measurement invalid: {count} tokens generated, 128 asked for", "*1 invalid*"]
    )


STRICTNESS = [
    pytest.param(UNJUDGED, "N", 0, 1, id="no baseline"),
    pytest.param(FAST.replace("min_tps=50", "max_vram_gb=1"), "I", 0, 1, id="inconclusive"),
    pytest.param(
        FAST.replace("min_tps=50", 'min_tps=50, max_regression="5%"'), "N", 0, 1, id="no history"
    ),
    pytest.param(FAST, ".", 0, 0, id="passed"),
    pytest.param(SLOW, "F", 1, 1, id="over budget"),
    pytest.param(FAST.replace("@pytest", "@pytest.mark.requires(gpus=99)\n@pytest", 1), "s", 5, 1,
                 id="required hardware"),
    pytest.param(FAST.replace("load(load_model)", 'load_model("no/such", backend="llama-cpp")'),
                 "s", 5, 1, id="missing model"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "letter", "code", "strict_code"), STRICTNESS)
def test_strictness(llmperf: Run, source: str, letter: str, code: int, strict_code: int) -> None:
    result = llmperf(source)
    assert result.ret == code
    result.stdout.fnmatch_lines([f"test_it.py {letter} *"])
    assert llmperf(source, "--llmperf-strict").ret == strict_code


def test_strict_turns_a_missing_model_red_but_not_requires(llmperf: Run) -> None:
    source = """
@pytest.mark.requires(gpus=99)
def test_hardware(load_model, measure):
    measure(load(load_model))

def test_model(load_model, measure):
    measure(load_model("no/such.gguf", backend="llama-cpp"))
"""
    result = llmperf(source, "--llmperf-strict")
    result.assert_outcomes(skipped=1, failed=1)
    result.stdout.fnmatch_lines(["*no/such.gguf: *(would skip without --llmperf-strict)"])


def test_backend_not_installed_skips_with_the_line_that_installs_it(
    llmperf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pytest_llmperf.backends.llama_cpp.LlamaCpp.distribution", "no-such-package"
    )
    result = llmperf("""
def test_one(load_model):
    load_model("synthetic:llama-15m", backend="llama-cpp")

@pytest.mark.requires(backend="llama-cpp")
def test_two(load_model):
    raise AssertionError("never gets here")
""", "-rs")  # fmt: skip
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        ["*backend llama-cpp is not installed: pip install 'pytest-llmperf[[]llama-cpp[]]'*"]
    )


MISTAKES = [
    ('load_model("fake:x", backend="lama-cpp")',
     "unknown backend 'lama-cpp', did you mean 'llama-cpp'?*"),
    ('load_model("fake:x", backend="fake", decode_tsp=3)',
     "backend fake has no option 'decode_tsp', did you mean 'decode_tps'?*"),
    ('load_model("fake:x", backend="fake", decode_tps="fast")', "backend fake: *decode_tps*"),
    ('load_model(backend="fake")', "load_model: give source=…, or run with --llmperf-model=…"),
    ('load_model("fake:x")', "load_model: give backend=…, or run with --llmperf-backend=…"),
    ('load_model("synthetic:lama-15m", backend="llama-cpp")', "*lama-15m*llama-15m*"),
    ('load_model("synthetic:llama-15m", backend="llama-cpp", quantization="Q4_KM")',
     "*Q4_KM*Q4_K_M*"),
    ('load_model("synthetc:llama-15m", backend="llama-cpp")', "*did you mean 'synthetic:'?"),
    ('load_model("llama-15m", backend="llama-cpp")', "*did you mean 'synthetic:llama-15m'?"),
    ('load_model(42, backend="fake")', "load_model: source must be text or a path, not 42"),
    ('measure(load(load_model), new_tokens=0)', "new_tokens must be a whole number*not 0"),
    ('measure(load(load_model), prompt_tokens=4090)',
     "4090 prompt + 128 new tokens need a context of 4218, but fake was loaded with 4096*"),
    ('measure(load(load_model), name="a"), measure(load(load_model), name="a")',
     "measure: the name 'a' is used twice in this test"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), MISTAKES)
def test_mistake_in_a_call_fails_in_a_line_without_traceback(
    llmperf: Run, call: str, said: str
) -> None:
    result = llmperf(f"def test_one(load_model, measure):\n    {call}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([said])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*During handling*")


def test_several_measurements_are_each_judged(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=150)
def test_one(load_model, measure):
    measure(load(load_model, decode_tps=100.0), name="slow")
    measure(load(load_model, decode_tps=200.0), name="fast")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  measure    slow"])
    result.stdout.no_fnmatch_line("  measure    fast")
    result.stdout.fnmatch_lines(["*2 measurements, 2 budgets judged: 1 passed, 1 over budget*"])


def test_a_worker_is_kept_for_the_same_model_only(llmperf: Run) -> None:
    result = llmperf("""
import os
seen = []

def test_one(load_model):
    seen.append(load(load_model).worker.pid)

def test_same(load_model):
    assert load(load_model).worker.pid == seen[0]

def test_other(load_model):
    assert load(load_model, ram_mib=1).worker.pid != seen[0]
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)
""")
    result.assert_outcomes(passed=3)
    assert result.ret == 5  # nothing was measured


def test_fixture_asked_for_by_name_is_refused_with_the_reason(llmperf: Run) -> None:
    result = llmperf("""
def test_one(request):
    request.getfixturevalue("load_model")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*getfixturevalue comes too late*"])


def test_last_failed_runs_only_the_red_one(llmperf: Run) -> None:
    source = FAST + SLOW.replace("test_one", "test_two")
    assert llmperf(source).ret == 1
    llmperf(source, "--lf").assert_outcomes(failed=1)


def test_only_a_value_near_its_own_limit_is_averaged(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=100, min_prefill_tps=1000)
def test_one(load_model, measure):
    measure(load(load_model, decode_tps=100.0, prefill_tps=[800.0, 1400.0]))
""")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["perf budget broken: prefill 800 tok/s < min_prefill_tps=1000"])


def test_limits_without_a_measurement_are_inconclusive(llmperf: Run) -> None:
    source = """
@pytest.mark.perf(max_load_s=0.1)
def test_one(load_model):
    load(load_model)

@pytest.mark.perf(min_tps=1e6)
def test_two(hardware):
    pass
"""
    result = llmperf(source)
    result.stdout.fnmatch_lines(["test_it.py II *", "*0 budgets judged: 2 inconclusive*"])
    strict = llmperf(source, "--llmperf-strict")
    strict.assert_outcomes(failed=2)
    strict.stdout.fnmatch_lines(["*the test has limits, but measured nothing"])


def test_a_marker_added_by_a_fixture_is_judged(llmperf: Run) -> None:
    result = llmperf("""
@pytest.fixture
def late(request):
    request.applymarker(pytest.mark.perf(min_prefill_tps=1e6))

@pytest.mark.perf(min_tps=1)
def test_one(load_model, measure, late):
    measure(load(load_model))
""")
    result.assert_outcomes(failed=1)


def test_measuring_after_the_judgement_is_refused(llmperf: Run) -> None:
    result = llmperf("""
@pytest.fixture
def late(load_model, measure):
    yield
    measure(load(load_model))

def test_one(late, measure, load_model):
    measure(load(load_model))
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["measure: the test was judged already, so this would go unjudged"])


def test_a_confirming_worker_is_not_the_next_tests_first(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=100)
@pytest.mark.parametrize("number", [1, 2])
def test_same(load_model, measure, number):
    measure(load(load_model, decode_tps=[95.0, 100.0]))
""")
    result.assert_outcomes(failed=2)


def test_a_confirmation_that_fails_keeps_the_numbers(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=100, min_prefill_tps=9999)
def test_one(load_model, measure):
    measure(load(load_model, disaster="sigkill", in_invocation=1, at="load"))
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "a value near its limit could not be confirmed: fake worker killed by SIGKILL*",
            "perf budget broken: prefill 1000 tok/s < min_prefill_tps=9999",
            "*1 measurement, 2 budgets judged: 1 over budget*",
        ]
    )


def test_overriding_a_fixture_with_defaults_of_ones_own(llmperf: Run) -> None:
    result = llmperf("""
@pytest.fixture
def measure(measure):
    return lambda model: measure(model, prompt_tokens=8, new_tokens=8)

@pytest.mark.perf(min_tps=200)
def test_one(load_model, measure):
    assert measure(load(load_model)).workload.new_tokens == 8
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 over budget*"])


def test_a_skip_after_measuring_keeps_the_numbers(llmperf: Run) -> None:
    result = llmperf("""
@pytest.mark.perf(min_tps=200)
def test_one(load_model, measure):
    measure(load(load_model))
    pytest.skip("why not")
""")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*1 measurement, 1 budget judged*", "  skipped 1×: why not"])
