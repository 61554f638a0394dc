"""How are two arms measured in turns, and what becomes of the limits on their ratio?"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pytest_llmperf.backends import find_backend
from pytest_llmperf.backends.registry import UnknownBackend
from pytest_llmperf.gate.budget import BadLimit, read_share
from pytest_llmperf.gate.comparison import (
    MOST_PAIRS,
    NO_NOISE,
    Arm,
    Ratio,
    RatioLimit,
    decide,
    order,
    ratio_of,
    wants_more,
)
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict, worst
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report.comparison import (
    MEMORY_LIMIT,
    PERPLEXITY_LIMIT,
    SLOWDOWN_LIMIT,
    SPEEDUP_LIMIT,
)
from pytest_llmperf.report.result import Comparison, RatioCheck

_MEMORY = ("vram", "ram")


@dataclass(frozen=True)
class Demands:
    """What two arms have to be to each other."""

    ratios: Sequence[RatioLimit] = ()
    """Of their speed."""
    max_memory_ratio: float | None = None
    """A's share of B's memory, at most."""
    max_perplexity_increase: float | None = None
    """By which share A's perplexity may be above B's."""


def read_demands(
    min_speedup: float | None = None,
    max_slowdown: float | str | None = None,
    max_memory_ratio: float | None = None,
    max_perplexity_increase: float | str | None = None,
) -> Demands:
    """What a test writes. Raises BadLimit."""
    ratios = []
    if min_speedup is not None:
        _require_ratio(SPEEDUP_LIMIT, min_speedup)
        ratios.append(RatioLimit(f"{SPEEDUP_LIMIT}={min_speedup:g}", float(min_speedup)))
    if max_slowdown is not None:
        share = read_share(SLOWDOWN_LIMIT, max_slowdown)
        ratios.append(RatioLimit(f"{SLOWDOWN_LIMIT}={share:.3g}", 1 - share))
    if max_memory_ratio is not None:
        _require_ratio(MEMORY_LIMIT, max_memory_ratio)
    increase = None
    if max_perplexity_increase is not None:
        increase = read_share(PERPLEXITY_LIMIT, max_perplexity_increase)
    return Demands(tuple(ratios), max_memory_ratio, increase)


def _require_ratio(keyword: str, value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 < value < math.inf):
        raise BadLimit(f"{keyword} must be a number greater than 0, not {value!r}")


def refuse_misspelt(
    given: Mapping[str, object],
    ours: Collection[str],
    backend: str | None,
    caller: str = "compare",
) -> None:
    """Raises BadLimit for what is no option of the backend, and reads like one of our keywords.

    The backend would refuse it, too, but with its own options to choose from.
    """
    try:
        theirs = {each.name for each in _fields(backend)} if backend else set()
    except UnknownBackend:  # told where it is looked for
        theirs = set()
    for name in given:
        if name in theirs or name in ours:
            continue
        near = difflib.get_close_matches(name, [*ours, *theirs], n=1)
        if near and near[0] in ours:
            raise BadLimit(f"{caller}: unknown keyword {name!r}, did you mean {near[0]!r}?")


def _fields(backend: str) -> Sequence[msgspec.structs.FieldInfo]:
    return msgspec.structs.fields(find_backend(backend).options_type)


@dataclass
class _Turns:
    """What both arms have brought so far."""

    taken: dict[Arm, list[Measurement]]
    speeds: list[float]
    """Of each pair, the difference of the logs of what is compared: larger is better for A."""
    invalid: str | None = None

    @property
    def memory(self) -> list[float]:
        """Of each pair, the difference of the logs of the memory where the model is.

        That of the GPU if both tell it, else RAM; none where an arm's is not known.
        """
        pairs = list(zip(self.taken["a"], self.taken["b"], strict=True))
        for metric in _MEMORY:
            if all(_takes(seen, metric) for pair in pairs for seen in pair):
                sizes = [[seen.metrics[metric].median for seen in pair] for pair in pairs]
                return [math.log(a / b) for a, b in sizes]
        return []


def _takes(seen: Measurement, metric: str) -> bool:
    return metric in seen.metrics and seen.metrics[metric].median > 0


def compare(
    measure: Callable[[Arm, int], Measurement],
    name: str,
    labels: Mapping[Arm, str],
    metric: str,
    demands: Demands,
) -> Comparison:
    """Measure both arms in turns until the limits on their speed and memory are decided.

    ``measure`` takes an arm and the number of its fresh worker; where perplexity is demanded, the
    first of each arm reads a text. ``metric``: what is compared.
    """
    turns = _take_turns(measure, labels, metric, demands)
    found = ratio_of(turns.speeds) if turns.speeds else None
    memory = ratio_of(turns.memory, NO_NOISE) if turns.memory else None
    perplexity, trouble = _perplexity_ratio(turns.taken)
    checks = [_check(turns.speeds, limit) for limit in demands.ratios]
    if demands.max_memory_ratio is not None:
        checks.append(_memory_check(turns.memory, demands.max_memory_ratio))
    if demands.max_perplexity_increase is not None:
        checks.append(_perplexity_check(perplexity, demands.max_perplexity_increase, trouble))
    verdict = worst([check.verdict for check in checks]) if checks else None
    has_read = any(seen.quality for seen in (*turns.taken["a"], *turns.taken["b"]))
    return Comparison(
        name=name,
        metric=metric,
        label_a=labels["a"],
        label_b=labels["b"],
        ratio=found.ratio if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        pairs=len(turns.speeds),
        memory_ratio=memory.ratio if memory else None,
        memory_low=memory.low if memory else None,
        memory_high=memory.high if memory else None,
        perplexity_ratio=perplexity.ratio if perplexity else None,
        perplexity_low=perplexity.low if perplexity else None,
        perplexity_high=perplexity.high if perplexity else None,
        perplexity_unknown=trouble or None if has_read else None,
        verdict=Verdict.INVALID if turns.invalid else verdict,
        checks=checks,
        invalid=turns.invalid,
        a=turns.taken["a"],
        b=turns.taken["b"],
    )


def _take_turns(
    measure: Callable[[Arm, int], Measurement],
    labels: Mapping[Arm, str],
    metric: str,
    demands: Demands,
) -> _Turns:
    """Pair by pair, until what can be decided is, or a measurement is of no use."""
    turns = _Turns({"a": [], "b": []}, [])
    while turns.invalid is None and (
        wants_more(turns.speeds, demands.ratios) or _is_memory_open(turns, demands)
    ):
        pair = len(turns.speeds)
        for arm in order(pair):
            seen = measure(arm, pair)
            turns.taken[arm].append(seen)
            turns.invalid = turns.invalid or _unusable(seen, metric, labels[arm])
        if turns.invalid is None:
            a, b = (_log(seen[-1], metric) for seen in (turns.taken["a"], turns.taken["b"]))
            turns.speeds.append(a - b)
    return turns


def _is_memory_open(turns: _Turns, demands: Demands) -> bool:
    """Whether more pairs may decide the limit on memory."""
    most, pairs = demands.max_memory_ratio, turns.memory
    if most is None or not pairs or len(pairs) >= MOST_PAIRS:
        return False
    return _memory_check(pairs, most).verdict is Verdict.INCONCLUSIVE


def _unusable(seen: Measurement, metric: str, label: str) -> str | None:
    if seen.invalid:
        return f"{label}: {seen.invalid}"
    if metric not in seen.metrics:
        why = seen.absent.get(metric, "it was not measured")
        return f"{label} has no {metric}: {why}"
    return None


def _log(seen: Measurement, metric: str) -> float:
    sign = 1.0 if BY_NAME[metric].better == "higher" else -1.0
    return sign * math.log(seen.metrics[metric].median)


def _check(differences: Sequence[float], limit: RatioLimit) -> RatioCheck:
    verdict = decide(differences, limit)
    if verdict is Verdict.INCONCLUSIVE:
        return _undecided(limit.text, f"not decided by {len(differences)} pairs")
    return RatioCheck(text=limit.text, verdict=verdict, reason="")


def _memory_check(pairs: Sequence[float], most: float) -> RatioCheck:
    """By the differences of the logs of each pair, A less B; none: not known."""
    text = f"{MEMORY_LIMIT}={most:g}"
    if not pairs:
        return _undecided(text, "the memory of an arm is not known")
    limit = RatioLimit(text, 1 / most)
    verdict = decide([-each for each in pairs], limit, NO_NOISE)
    if verdict is Verdict.INCONCLUSIVE:
        found = ratio_of(pairs, NO_NOISE)
        told = f"{found.low:.3g}–{found.high:.3g} by {len(pairs)} pairs"
        return _undecided(text, f"not decided, {told}")
    return RatioCheck(text=text, verdict=verdict, reason="")


def _perplexity_ratio(
    taken: Mapping[Arm, Sequence[Measurement]],
) -> tuple[Ratio | None, str]:
    """Of the first of each arm: the same model reads the same text in the same way again.

    Its pairs are the windows, which both arms read. None, and why, where they did not.
    """
    read = [seen[0].quality for seen in taken.values() if seen]
    told = [each for each in read if each is not None]
    if len(told) < len(taken):
        return None, "an arm read no text"
    a, b = told
    if a.passage != b.passage:
        return None, (
            f"the arms read different tokens, {a.windows} windows of {a.positions // a.windows} "
            f"scored positions and {b.windows} of {b.positions // b.windows}: give them the same "
            "context, and models of the same vocabulary"
        )
    pairs = zip(a.surprises, b.surprises, strict=True)
    return ratio_of([ours - theirs for ours, theirs in pairs], NO_NOISE), ""


def _perplexity_check(ratio: Ratio | None, most: float, trouble: str) -> RatioCheck:
    """Broken or kept where the whole interval of 95 % is: a text is read once, not until sure."""
    text = f"{PERPLEXITY_LIMIT}={most:.3g}"
    if ratio is None:
        return _undecided(text, trouble)
    if ratio.pairs == 1:
        return _undecided(
            text, "the arms read a single window, of which no interval can be told: read more text"
        )
    if ratio.high - 1 <= most:
        return RatioCheck(text=text, verdict=Verdict.PASSED, reason="")
    if ratio.low - 1 > most:
        return RatioCheck(text=text, verdict=Verdict.OVER_BUDGET, reason="")
    between = f"{ratio.low:.4g}–{ratio.high:.4g}"
    return _undecided(text, f"not decided, {between} by {ratio.pairs} windows")


def _undecided(text: str, why: str) -> RatioCheck:
    return RatioCheck(text=text, verdict=Verdict.INCONCLUSIVE, reason=f"{text}: {why}")
