"""Are perplexity, divergence and agreement what their formulas say?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_llmperf.measure.quality import (
    NoDistribution,
    log_shares,
    look_at,
    look_at_log_probs,
    summarize_quality,
)

VOCABULARY, POSITIONS = 7, 40


def drawn(seed: int, scale: float = 1.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    source = np.random.default_rng(seed)
    return (scale * source.normal(size=(POSITIONS, VOCABULARY))).astype(np.float32)


def following(seed: int = 0) -> list[int]:
    return [int(each) for each in np.random.default_rng(seed).integers(VOCABULARY, size=POSITIONS)]


def test_all_tokens_equally_likely_is_a_perplexity_of_the_vocabulary() -> None:
    flat = np.zeros((POSITIONS, VOCABULARY), np.float32)
    found = summarize_quality([look_at(flat, following()), look_at(flat, following(1))])
    assert found.perplexity.value == pytest.approx(VOCABULARY)
    assert found.perplexity.error == pytest.approx(0.0, abs=1e-9)
    assert (found.positions, found.windows) == (2 * POSITIONS, 2)
    assert found.kl_divergence is None


def test_two_tokens_by_hand() -> None:
    """p = (3/4, 1/4) against a reference of (1/2, 1/2); token 0 follows."""
    ours = np.log(np.array([[0.75, 0.25]], np.float32))
    theirs = np.log(np.array([[0.5, 0.5]], np.float32))
    found = summarize_quality([look_at(ours, [0], theirs)])
    assert found.perplexity.value == pytest.approx(4 / 3)
    assert found.reference_perplexity is not None
    assert found.reference_perplexity.value == pytest.approx(2.0)
    assert found.kl_divergence is not None
    by_hand = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert found.kl_divergence.value == pytest.approx(by_hand, rel=1e-6)
    assert found.kl_divergence.error is None, "one window has no spread"


def test_a_model_does_not_differ_from_itself() -> None:
    logits = drawn(1)
    shifted = logits + np.float32(5.0)  # the same distribution
    found = summarize_quality([look_at(shifted, following(), logits)])
    assert found.kl_divergence is not None
    assert found.kl_divergence.value == pytest.approx(0.0, abs=1e-6)
    assert found.top1_agreement is not None
    assert found.top1_agreement.value == 1.0


def test_the_farther_away_the_larger_the_divergence() -> None:
    theirs, noise = drawn(1), drawn(2)
    found = [
        summarize_quality([look_at(theirs + np.float32(part) * noise, following(), theirs)])
        for part in (0.1, 0.3, 1.0)
    ]
    divergences = [each.kl_divergence.value for each in found if each.kl_divergence]
    assert divergences == sorted(divergences)
    assert divergences[0] > 0
    agreements = [each.top1_agreement.value for each in found if each.top1_agreement]
    assert agreements == sorted(agreements, reverse=True)


def test_the_error_is_that_of_the_windows_means() -> None:
    """Positions of a window that all err together count as one, not as forty."""
    windows = []
    for mistake in (0.0, 1.0, 2.0):
        logits = np.zeros((POSITIONS, VOCABULARY), np.float32)
        logits[:, 0] = -mistake
        windows.append(look_at(logits, [0] * POSITIONS))
    means = [each.surprise.mean() for each in windows]
    found = summarize_quality(windows)
    assert found.surprises == pytest.approx(means)
    assert found.perplexity.error == pytest.approx(
        found.perplexity.value * float(np.std(means, ddof=1)) / math.sqrt(3)
    )


def test_large_logits_are_no_overflow() -> None:
    rows = log_shares(np.array([[3e4, -3e4, 0.0]], np.float32))
    assert rows[0, 0] == pytest.approx(0.0)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_refused(wrong: float) -> None:
    logits = drawn(3)
    logits[2, 1] = wrong
    with pytest.raises(NoDistribution, match="not a finite number"):
        look_at(logits, following())


def test_other_positions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits of \(40, 7\) against a reference's \(39, 7\)"):
        look_at(drawn(1), following(), drawn(2)[:-1])


def test_no_window_is_no_quality() -> None:
    with pytest.raises(ValueError, match="no window"):
        summarize_quality([])


def test_log_probabilities_tell_all_but_the_divergence() -> None:
    logits, reference, after = drawn(3), drawn(4), following(5)
    whole = summarize_quality([look_at(logits, after, reference)])
    shares = log_shares(logits)
    told = [float(row[token]) for row, token in zip(shares, after, strict=True)]
    likeliest = [int(each) for each in shares.argmax(axis=1)]
    found = summarize_quality([look_at_log_probs(told, likeliest, after, reference)])
    assert found.perplexity.value == pytest.approx(whole.perplexity.value)
    assert found.top1_agreement == whole.top1_agreement
    assert found.reference_perplexity == whole.reference_perplexity
    assert found.kl_divergence is None


@pytest.mark.parametrize("told", [0.5, math.nan, -math.inf])
def test_what_is_no_logarithm_of_a_probability_is_refused(told: float) -> None:
    with pytest.raises(NoDistribution, match="above 0, or no finite number"):
        look_at_log_probs([-1.0, told], [0, 0], [1, 2])


def test_a_perplexity_is_that_of_the_whole_vocabulary_whatever_it_is_compared_with() -> None:
    padded, reference, after = drawn(6), drawn(7)[:, :-1], [each % 6 for each in following(8)]
    alone = summarize_quality([look_at(padded, after)])
    theirs = summarize_quality([look_at(reference, after)])
    found = summarize_quality([look_at(padded, after, reference)])
    assert found.perplexity == alone.perplexity
    assert found.reference_perplexity == theirs.perplexity
    cut = summarize_quality([look_at(padded[:, :-1], after, reference)])
    assert found.kl_divergence is not None
    assert cut.kl_divergence is not None
    assert found.kl_divergence.value == pytest.approx(cut.kl_divergence.value, rel=1e-5)


def test_a_model_that_is_sure_of_the_wrong_thing_is_broken_and_not_an_overflow() -> None:
    sure = np.zeros((POSITIONS, VOCABULARY), np.float32)
    sure[:, 0] = 2000.0
    with pytest.raises(NoDistribution, match="2000 nats a token: the perplexity is no finite"):
        summarize_quality([look_at(sure, [1] * POSITIONS)])


def test_it_is_said_whose_logits_are_no_numbers() -> None:
    broken = np.full((POSITIONS, VOCABULARY), np.nan, np.float32)
    with pytest.raises(NoDistribution, match="one of the model's logits"):
        look_at(broken, following(), drawn(9))
    with pytest.raises(NoDistribution, match="one of the reference's logits"):
        look_at(drawn(9), following(), broken)
