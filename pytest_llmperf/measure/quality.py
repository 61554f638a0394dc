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


_ROUNDED_UP = 1e-3
"""What an engine that rounds may make of ln 1."""
_BLOCK_ROWS = 64
"""Positions at once: of a large vocabulary, each takes a megabyte."""


_MOST_NATS = 700.0
"""Whose exponential is the last that a float holds."""


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
    tokens_per_character: float | None = None
    """Of the whole text; None: an older result."""
    passage: str = ""
    """Which tokens were read: the same for the same windows."""
    reference: str = ""
    """Which model the distances are from; empty: there was no reference."""
    surprises: list[float] = []
    """Mean −ln p of each window, in nats; empty: an older result."""


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

    Of two vocabularies the longer one is cut for the comparison: what it has more is padding. Each
    perplexity is that of the whole distribution. Raises ValueError where the positions do not fit,
    NoDistribution where a logit is no number.
    """
    if reference is not None and len(logits) != len(reference):
        raise ValueError(f"logits of {logits.shape} against a reference's {reference.shape}")
    parts = []
    for begin in range(0, len(following), _BLOCK_ROWS):
        rows = slice(begin, begin + _BLOCK_ROWS)
        theirs = None if reference is None else reference[rows]
        parts.append(_look_at_block(logits[rows], following[rows], theirs))
    return Window(
        surprise=np.concatenate([each.surprise for each in parts]),
        divergence=_whole([each.divergence for each in parts]),
        agrees=_whole([each.agrees for each in parts]),
        reference_surprise=_whole([each.reference_surprise for each in parts]),
    )


def look_at_log_probs(
    told: Sequence[float],
    likeliest: Sequence[int],
    following: Sequence[int],
    reference: Logits | None = None,
) -> Window:
    """One window of an engine that gives no distribution, so that no divergence can be told.

    ``told``: ln p of each of ``following``; ``likeliest``: the likeliest token in its place;
    ``reference``: (positions, vocabulary). Raises NoDistribution for what is no logarithm of a
    probability.
    """
    logarithms = np.asarray(told, np.float64)
    if not (np.isfinite(logarithms) & (logarithms < _ROUNDED_UP)).all():
        raise NoDistribution("a log-probability is above 0, or no finite number")
    if reference is None:
        return Window(-logarithms)
    beside = look_at(reference, following)
    agrees = np.asarray(likeliest) == np.argmax(reference, axis=1)
    return Window(
        surprise=-logarithms,
        agrees=agrees.astype(np.float64),
        reference_surprise=beside.surprise,
    )


def _whole(parts: Sequence[Floats | None]) -> Floats | None:
    known = [each for each in parts if each is not None]
    return np.concatenate(known) if known else None


def _look_at_block(logits: Logits, following: Sequence[int], reference: Logits | None) -> Window:
    followed = np.arange(len(following)), np.asarray(following)
    ours = log_shares(logits)
    if reference is None:
        return Window(-ours[followed])
    theirs = log_shares(reference, "the reference's")
    surprise, reference_surprise = -ours[followed], -theirs[followed]
    size = min(ours.shape[1], theirs.shape[1])
    ours, theirs = (
        each if each.shape[1] == size else log_shares(each[:, :size].astype(np.float32))
        for each in (ours, theirs)
    )
    divergence = np.sum(np.exp(theirs) * (theirs - ours), axis=1)
    agrees = np.argmax(ours, axis=1) == np.argmax(theirs, axis=1)
    return Window(
        surprise=surprise,
        divergence=np.maximum(divergence, 0.0),  # below 0 by rounding alone
        agrees=agrees.astype(np.float64),
        reference_surprise=reference_surprise,
    )


def log_shares(logits: Logits, whose: str = "the model's") -> Floats:
    """Logarithm of every token's probability. Raises NoDistribution, which tells ``whose``."""
    rows = logits.astype(np.float64)
    if not np.isfinite(rows).all():
        raise NoDistribution(f"one of {whose} logits is not a finite number")
    rows -= rows.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows


def summarize_quality(windows: Sequence[Window], passage: str = "", reference: str = "") -> Quality:
    """All windows together. Raises ValueError for none, NoDistribution."""
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
        reference=reference,
        surprises=[float(each.surprise.mean()) for each in windows],
    )


def _mean(windows: Sequence[Floats]) -> Estimate:
    """Over all positions; windows are equally long."""
    means = np.array([each.mean() for each in windows])
    error = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else None
    return Estimate(value=float(means.mean()), error=error)


def _raised(mean: Estimate) -> Estimate:
    """The exponential of a mean; of its error by the first derivative. Raises NoDistribution."""
    if mean.value > _MOST_NATS:
        raise NoDistribution(f"{mean.value:.4g} nats a token: the perplexity is no finite number")
    value = math.exp(mean.value)
    return Estimate(value=value, error=None if mean.error is None else value * mean.error)
