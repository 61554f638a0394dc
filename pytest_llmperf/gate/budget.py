"""What limits does a test put on its metrics? The keywords of ``@pytest.mark.perf``, checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_llmperf.gate.metric import LimitKeyword, limit_keywords

OTHER_KEYWORDS = ("max_regression", "samples", "timeout_s")
LEAST_SAMPLES = 5
MOST_SAMPLES = 1000
MOST = 1e15
"""No limit is larger; keeps infinities and integers out that no float can hold."""

KEYWORDS = limit_keywords()


class BadLimit(Exception):
    """A keyword or value of ``perf`` that means nothing; the message names it and the cure."""


@dataclass(frozen=True)
class Budget:
    """A contract: the metric's median, or a percentile of it, against a limit in its unit."""

    keyword: LimitKeyword
    limit: float

    @property
    def text(self) -> str:
        """As the user wrote it."""
        return f"{self.keyword.keyword}={self.limit:.12g}"

    def broken_by(self, value: float) -> bool:
        """Whether ``value`` lies beyond the limit."""
        better_is_higher = self.keyword.metric.better == "higher"
        return value < self.limit if better_is_higher else value > self.limit


def subject(keyword: str) -> object:
    """What a keyword limits: the same for ``min_tps`` and ``min_decode_tps``."""
    known = KEYWORDS.get(keyword)
    return keyword if known is None else (known.metric.name, known.percentile)


@dataclass(frozen=True)
class Limits:
    """Everything a test's ``perf`` markers say."""

    budgets: tuple[Budget, ...] = ()
    max_regression: float | None = None
    """Tolerated loss against the baseline, as a share."""
    samples: int | None = None
    timeout_s: float | None = None


def read_limits(given: Mapping[str, object]) -> Limits:
    """Check the keywords of ``perf``. Raises BadLimit for a wrong name, type, sign or range."""
    budgets = []
    for keyword, value in given.items():
        if keyword in KEYWORDS:
            budgets.append(Budget(KEYWORDS[keyword], _limit(KEYWORDS[keyword], value)))
        elif keyword not in OTHER_KEYWORDS:
            raise BadLimit(_unknown(keyword))
    return Limits(
        budgets=tuple(budgets),
        max_regression=(
            read_share("max_regression", given["max_regression"])
            if "max_regression" in given
            else None
        ),
        samples=_samples(given["samples"]) if "samples" in given else None,
        timeout_s=_number("timeout_s", given["timeout_s"]) if "timeout_s" in given else None,
    )


def _unknown(keyword: str) -> str:
    close = difflib.get_close_matches(keyword, [*KEYWORDS, *OTHER_KEYWORDS], n=1, cutoff=0.5)
    turned = {"min_": "max_", "max_": "min_"}.get(keyword[:4], keyword[:4]) + keyword[4:]
    if turned in KEYWORDS:
        return f"unknown keyword {keyword!r}: only the harmful direction has a limit, {turned!r}"
    meant = f", did you mean {close[0]!r}?" if close else ""
    return f"unknown keyword {keyword!r}{meant}"


def _number(keyword: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadLimit(f"{keyword} must be a number, not {value!r}")
    if not 0 < value < MOST:
        raise BadLimit(f"{keyword} must be greater than 0, not {str(value)[:20]}")
    return float(value)


def _limit(keyword: LimitKeyword, value: object) -> float:
    number = _number(keyword.keyword, value)
    most = keyword.metric.most
    if most is not None and number > most:
        raise BadLimit(f"{keyword.keyword} is a ratio of at most {most:g}, not {value!r}")
    return number


def _samples(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadLimit(f"samples must be a whole number, not {value!r}")
    if not LEAST_SAMPLES <= value <= MOST_SAMPLES:
        raise BadLimit(f"samples must lie between {LEAST_SAMPLES} and {MOST_SAMPLES}, not {value}")
    return value


def read_share(keyword: str, value: object) -> float:
    """A share below 1, as a number or as "5%". Raises BadLimit."""
    number = value
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text.removesuffix("%")) / 100 if text.endswith("%") else None
        except ValueError:
            number = None
        if number is None:
            raise BadLimit(f'{keyword} must read like "5%" or 0.05, not {value!r}')
    share = _number(keyword, number)
    if share >= 1:
        raise BadLimit(f'{keyword} is a share such as "5%" or 0.05, not {value!r}')
    return share
