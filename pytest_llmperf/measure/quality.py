"""How good is what a model says? From its logits over a text, and those of a reference.

Of every position of a text, a model gives a distribution of the next token. Perplexity:
exp(mean of −ln p(the token that followed)). Against a reference, per position: KL divergence
Σ p_ref·(ln p_ref − ln p) in nats, and whether both have the same likeliest token. Means over all
positions, with their standard errors: those of the means of whole windows of text, because
neighbouring positions are not independent. llama-perplexity computes the same three, and takes
positions as independent (``tools/perplexity/perplexity.cpp``, ``process_logits``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Logits = NDArray[np.float32]


_BLOCK_ROWS = 64
"""Positions at once: of a large vocabulary, each takes a megabyte."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over positions."""

    value: float
    error: float | None
    """Its standard error; None: of a single window none can be told."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What a text told of a model."""

    perplexity: Estimate
    kl_divergence: Estimate | None = None
    """In nats; None: there was no reference."""
    top1_agreement: Estimate | None = None
    """Share of positions; None: there was no reference."""
    reference_perplexity: Estimate | None = None
    positions: int
    windows: int
    passage: str = ""
    """Which tokens were read: the same for the same windows."""


class NoDistribution(Exception):
    """Logits that are no numbers."""


@dataclass(frozen=True)
class Window:
    """What each position of one window came to; all arrays are (positions,)."""

    surprise: Floats
    """−ln p of the token that followed."""
    divergence: Floats | None = None
    """KL divergence from the reference, in nats."""
    agrees: Floats | None = None
    """1 where the likeliest token is the reference's."""
    reference_surprise: Floats | None = None


def look_at(logits: Logits, following: Sequence[int], reference: Logits | None = None) -> Window:
    """One window. ``logits`` and ``reference``: (positions, vocabulary); ``following``: ids.

    Raises ValueError where the shapes do not fit, NoDistribution where a logit is no number.
    """
    if reference is not None and logits.shape != reference.shape:
        raise ValueError(f"logits of {logits.shape} against a reference's {reference.shape}")
    parts = []
    for begin in range(0, len(following), _BLOCK_ROWS):
        rows = slice(begin, begin + _BLOCK_ROWS)
        theirs = None if reference is None else log_shares(reference[rows])
        parts.append(_look_at_block(log_shares(logits[rows]), following[rows], theirs))
    return Window(
        surprise=np.concatenate([each.surprise for each in parts]),
        divergence=_whole([each.divergence for each in parts]),
        agrees=_whole([each.agrees for each in parts]),
        reference_surprise=_whole([each.reference_surprise for each in parts]),
    )


def _whole(parts: Sequence[Floats | None]) -> Floats | None:
    known = [each for each in parts if each is not None]
    return np.concatenate(known) if known else None


def _look_at_block(ours: Floats, following: Sequence[int], theirs: Floats | None) -> Window:
    followed = np.arange(len(following)), np.asarray(following)
    if theirs is None:
        return Window(-ours[followed])
    divergence = np.sum(np.exp(theirs) * (theirs - ours), axis=1)
    agrees = np.argmax(ours, axis=1) == np.argmax(theirs, axis=1)
    return Window(
        surprise=-ours[followed],
        divergence=np.maximum(divergence, 0.0),  # below 0 by rounding alone
        agrees=agrees.astype(np.float64),
        reference_surprise=-theirs[followed],
    )


def log_shares(logits: Logits) -> Floats:
    """Logarithm of every token's probability. Raises NoDistribution."""
    rows = logits.astype(np.float64)
    if not np.isfinite(rows).all():
        raise NoDistribution("a logit is not a finite number")
    rows -= rows.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows


def summarize_quality(windows: Sequence[Window], passage: str = "") -> Quality:
    """All windows together. Raises ValueError for none."""
    if not windows:
        raise ValueError("no window of text to judge by")
    divergences = [each.divergence for each in windows if each.divergence is not None]
    agreements = [each.agrees for each in windows if each.agrees is not None]
    theirs = [each.reference_surprise for each in windows if each.reference_surprise is not None]
    return Quality(
        perplexity=_raised(_mean([each.surprise for each in windows])),
        kl_divergence=_mean(divergences) if divergences else None,
        top1_agreement=_mean(agreements) if agreements else None,
        reference_perplexity=_raised(_mean(theirs)) if theirs else None,
        positions=sum(len(each.surprise) for each in windows),
        windows=len(windows),
        passage=passage,
    )


def _mean(windows: Sequence[Floats]) -> Estimate:
    """Over all positions; windows are equally long."""
    means = np.array([each.mean() for each in windows])
    error = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else None
    return Estimate(value=float(means.mean()), error=error)


def _raised(mean: Estimate) -> Estimate:
    """The exponential of a mean; of its error by the first derivative."""
    value = math.exp(mean.value)
    return Estimate(value=value, error=None if mean.error is None else value * mean.error)
