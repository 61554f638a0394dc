"""Are perplexity, divergence and agreement what their formulas say?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_llmperf.measure.quality import (
    NoDistribution,
    log_shares,
    look_at,
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


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(40, 7\) against a reference's \(40, 6\)"):
        look_at(drawn(1), following(), drawn(1)[:, :6])


def test_no_window_is_no_quality() -> None:
    with pytest.raises(ValueError, match="no window"):
        summarize_quality([])
