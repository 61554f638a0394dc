"""Does a measurement tell what a text told, and is that judged?"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pytest_llmperf.texts import MEASURED
from tests.plugin.conftest import Run

VOCABULARY = 32000
USUAL = 5.0
"""The sharpness of the scripted engine: the logit of one token, that of all others being 0."""


def reads(asked: str, *, marker: str = "", sharpness: float = USUAL) -> str:
    """A test whose model reads a text; a short context makes for short windows."""
    return f"""
{marker}
def test_it(load_model, measure):
    model = load(load_model, n_ctx=64, sharpness={sharpness})
    measure(model, prompt_tokens=8, new_tokens=8, {asked})
"""


def divergence(ours: float, theirs: float) -> float:
    """KL divergence of two sharpnesses, by hand."""

    def shares(sharpness: float) -> tuple[float, float]:
        whole = math.exp(sharpness) + VOCABULARY - 1
        return math.exp(sharpness) / whole, 1 / whole

    (p_top, p_rest), (q_top, q_rest) = shares(ours), shares(theirs)
    rest = (VOCABULARY - 1) * q_rest * math.log(q_rest / p_rest)
    return q_top * math.log(q_top / p_top) + rest


def perplexity_by_hand() -> float:
    """The second halves of 8 windows of 64 bytes, less the last of each, which nothing follows."""
    text = MEASURED.read_bytes()
    pairs = [
        (text[place], text[place + 1])
        for begin in range(0, 8 * 64, 64)
        for place in range(begin + 32, begin + 63)
    ]
    hit = sum(after == before + 1 for before, after in pairs) / len(pairs)
    return math.exp(math.log(math.exp(USUAL) + VOCABULARY - 1) - hit * USUAL)


def metrics(path: Path) -> dict[str, dict[str, float]]:
    (test,) = json.loads(path.read_text())["tests"]
    (judged,) = test["measurements"]
    found: dict[str, dict[str, float]] = judged["measurement"]["metrics"]
    return found


def test_a_text_and_a_reference_tell_three_metrics(llmperf: Run, pytester: pytest.Pytester) -> None:
    source = reads('against={"sharpness": 12.0, "n_ctx": 64}')
    assert llmperf(source, "--llmperf-json=out.json").ret == 0
    found = metrics(pytester.path / "out.json")
    assert found["kl_divergence"]["median"] == pytest.approx(divergence(USUAL, 12.0), rel=1e-5)
    assert found["top1_agreement"]["median"] == 1.0
    assert found["perplexity"]["median"] == pytest.approx(perplexity_by_hand(), rel=1e-5)
    assert "positions in 8 windows of wonderland.txt" in str(found["kl_divergence"]["how"])


def test_without_a_reference_a_text_tells_perplexity_alone(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "mine.txt").write_text("a line of text, and another\n" * 20)
    assert llmperf(reads('text="mine.txt"'), "--llmperf-json=out.json").ret == 0
    found = metrics(pytester.path / "out.json")
    assert "perplexity" in found
    assert not {"kl_divergence", "top1_agreement"} & set(found)


def test_longer_windows_are_fewer(llmperf: Run, pytester: pytest.Pytester) -> None:
    source = """
def test_it(load_model, measure):
    model = load(load_model, n_ctx=2048)
    for length in (64, 1024):
        found = measure(
            model, prompt_tokens=8, new_tokens=8, text="shipped", window_tokens=length,
            name=f"{length}",
        )
        assert found.quality.windows == {64: 8, 1024: 4}[length]
        assert found.quality.positions == found.quality.windows * (length // 2 - 1)
"""
    assert llmperf(source).ret == 0


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("window_tokens=64", "window_tokens needs a text to read"),
        ('text="shipped", window_tokens=2', "must be a whole number of at least 4, not 2"),
        ('text="shipped", window_tokens=True', "must be a whole number of at least 4, not True"),
        (
            'text="shipped", window_tokens=65',
            "windows are asked for of 65 tokens, the model's context",
        ),
    ],
)
def test_a_window_that_cannot_be_read_is_a_mistake(llmperf: Run, asked: str, why: str) -> None:
    result = llmperf(reads(asked))
    result.assert_outcomes(failed=1)
    assert why in " ".join(result.stdout.str().split())


@pytest.mark.parametrize(("most", "failed"), [(0.5, 1), (5.0, 0)])
def test_a_budget_on_divergence_is_judged(llmperf: Run, most: float, failed: int) -> None:
    assert 0.5 < divergence(USUAL, 12.0) < 5.0
    marker = f"@pytest.mark.perf(max_kl_divergence={most})"
    result = llmperf(reads('against={"sharpness": 12.0, "n_ctx": 64}', marker=marker))
    result.assert_outcomes(passed=1 - failed, failed=failed)
    if failed:
        result.stdout.fnmatch_lines(["*KL divergence*max_kl_divergence=0.5*"])


@pytest.mark.parametrize(
    ("asked", "limit", "why"),
    [
        ("seed=0", "max_kl_divergence=1", "needs measure(…, text='shipped') or against={…}"),
        ('text="shipped"', "min_top1_agreement=0.9", "needs a reference: measure(…, against={…})"),
    ],
)
def test_a_budget_on_what_is_not_read_is_a_mistake(
    llmperf: Run, asked: str, limit: str, why: str
) -> None:
    result = llmperf(reads(asked, marker=f"@pytest.mark.perf({limit})"))
    result.assert_outcomes(failed=1)
    assert why in result.stdout.str()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no such file; 'shipped' is the one that comes with us"),
        (b"too short", "has 9 tokens; one window takes 64"),
        (b"\xff\xfe\x00" * 99, "can't decode byte 0xff"),
    ],
)
def test_a_text_that_cannot_be_read_is_named(
    llmperf: Run, pytester: pytest.Pytester, text: bytes | None, why: str
) -> None:
    if text is not None:
        (pytester.path / "mine.txt").write_bytes(text)
    result = llmperf(reads('text="mine.txt"'))
    result.assert_outcomes(failed=1)
    assert why in " ".join(result.stdout.str().split())


def test_logits_that_are_no_numbers_are_invalid(llmperf: Run) -> None:
    result = llmperf(reads('text="shipped"', sharpness=math.inf).replace("inf", "float('inf')"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the model's logits is not a finite number*"])


@pytest.mark.parametrize(("most", "failed"), [('"1%"', 1), ('"50%"', 0)])
def test_two_arms_have_a_ratio_of_perplexity(
    llmperf: Run, pytester: pytest.Pytester, most: str, failed: int
) -> None:
    """A's model is sure of what does not come."""
    (pytester.path / "mine.txt").write_text("z" * 640)
    ratio = (math.exp(9.0) + VOCABULARY - 1) / VOCABULARY
    result = llmperf(f"""
def test_arms(compare):
    found = compare({{"sharpness": 9.0}}, {{"sharpness": 0.0}}, source="fake:model", backend="fake",
        n_ctx=64, prompt_tokens=8, new_tokens=8, text="mine.txt", max_perplexity_increase={most})
    assert abs(found.perplexity_ratio - {ratio}) < 1e-4
""")
    result.assert_outcomes(passed=1 - failed, failed=failed)
    if failed:
        result.stdout.fnmatch_lines(
            ["*A's perplexity is above B's by 0.25 >", "  max_perplexity_increase=0.01"]
        )


def test_a_reference_that_is_the_model_itself_is_a_mistake(llmperf: Run) -> None:
    result = llmperf(reads(f'against={{"n_ctx": 64, "sharpness": {USUAL}}}'))
    result.assert_outcomes(failed=1)
    assert "is the model itself" in result.stdout.str()


@pytest.mark.parametrize(
    ("against", "why"),
    [
        ("model", "against is what load_model takes of a reference"),
        ('{"quantisation": "F16"}', "unknown keyword 'quantisation', did you mean 'quantization'?"),
        ('{"n_ctx": 32, "sharpness": 1.0}', "context holds 32 tokens, a window of text 64"),
    ],
)
def test_a_wrong_reference_is_named(llmperf: Run, against: str, why: str) -> None:
    result = llmperf(reads(f"against={against}"))
    result.assert_outcomes(failed=1)
    assert why in " ".join(result.stdout.str().split())


@pytest.mark.parametrize("strict", [False, True])
def test_a_reference_whose_engine_is_missing_skips_before_anything_is_timed(
    llmperf: Run, *, strict: bool
) -> None:
    switches = ["--llmperf-strict"] if strict else []
    result = llmperf(reads('against={"backend": "exllamav2", "source": "x"}'), *switches)
    result.assert_outcomes(failed=int(strict), skipped=int(not strict))


def test_arms_that_read_different_tokens_are_not_compared(llmperf: Run) -> None:
    result = llmperf("""
def test_arms(compare):
    compare({"n_ctx": 64}, {"n_ctx": 128}, source="fake:model", backend="fake",
        prompt_tokens=8, new_tokens=8, max_perplexity_increase="50%")
""")
    said = " ".join(result.stdout.str().split())
    assert "inconclusive 1×: max_perplexity_increase=0.5: the arms read different tokens" in said


def test_a_broken_limit_tells_a_mean_and_its_error(llmperf: Run) -> None:
    marker = "@pytest.mark.perf(max_kl_divergence=0.5)"
    result = llmperf(reads('against={"sharpness": 12.0, "n_ctx": 64}', marker=marker))
    result.stdout.fnmatch_lines(["*mean of 248 positions ± *"])
    assert "kl_divergencemean" not in result.stdout.str()


def test_of_a_single_window_no_error_is_made_up(llmperf: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "mine.txt").write_text("z" * 64)
    marker = "@pytest.mark.perf(max_perplexity=2)"
    result = llmperf(reads('text="mine.txt"', marker=marker))
    result.stdout.fnmatch_lines(["*(mean of 31 positions)*"])


def test_a_server_is_judged_by_perplexity_and_not_by_divergence(pytester: pytest.Pytester) -> None:
    """It tells log-probabilities, as if every token of a text had a chance of a quarter."""
    server = Path(__file__).parents[1] / "backends" / "faulty_server.py"
    (pytester.path / "mine.txt").write_text("0123456789" * 60)
    pytester.makepyfile(
        f"""
        import pytest

        WORK = dict(prompt_tokens=8, new_tokens=8, text="mine.txt")

        @pytest.fixture
        def served(load_model):
            command = "{{python}} {server} {{port}} none"
            return load_model(
                "served:counts", backend="openai", command=command, vocab_size=32000
            )

        @pytest.mark.perf(max_perplexity=4.1, samples=5)
        def test_good(served, measure):
            assert 3.9 < measure(served, **WORK).perplexity.median < 4.1

        @pytest.mark.perf(max_perplexity=3.9, samples=5)
        def test_bad(served, measure):
            measure(served, **WORK)

        @pytest.mark.perf(max_kl_divergence=0.1, samples=5)
        def test_not_told(served, measure):
            fake = dict(source="synthetic:llama-15m", backend="fake", n_ctx=64)
            seen = measure(served, **WORK, against=fake)
            assert abs(seen.top1_agreement.median - 0.4) < 0.02  # of ten digits 2, 4, 6 and 8
        """
    )
    result = pytester.runpytest_subprocess("--llmperf")
    said = " ".join(result.stdout.str().split())
    result.assert_outcomes(passed=1, failed=1)
    assert "3 measurements, 3 budgets judged: 1 passed, 1 inconclusive, 1 over budget" in said
    assert "perplexity 4.00 > max_perplexity=3.9" in said
    assert "openai tells log-probabilities of tokens, no distribution" in said
