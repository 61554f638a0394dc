"""How are two arms measured in turns, and what becomes of the limits on their ratio?"""

from __future__ import annotations

import difflib
import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from pytest_llmperf.backends import find_backend
from pytest_llmperf.backends.registry import UnknownBackend
from pytest_llmperf.gate.budget import BadLimit, read_share
from pytest_llmperf.gate.comparison import (
    Arm,
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
        if isinstance(min_speedup, bool) or not 0 < min_speedup < math.inf:
            raise BadLimit(f"min_speedup must be a number greater than 0, not {min_speedup!r}")
        ratios.append(RatioLimit(f"{SPEEDUP_LIMIT}={min_speedup:g}", float(min_speedup)))
    if max_slowdown is not None:
        share = read_share(SLOWDOWN_LIMIT, max_slowdown)
        ratios.append(RatioLimit(f"{SLOWDOWN_LIMIT}={share:.3g}", 1 - share))
    increase = None
    if max_perplexity_increase is not None:
        increase = read_share(PERPLEXITY_LIMIT, max_perplexity_increase)
    return Demands(tuple(ratios), max_memory_ratio, increase)


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


def compare(
    measure: Callable[[Arm, int], Measurement],
    name: str,
    labels: Mapping[Arm, str],
    metric: str,
    demands: Demands,
) -> Comparison:
    """Measure both arms in turns until the limits on their speed are decided.

    ``measure`` takes an arm and the number of its fresh worker; where perplexity is demanded, the
    first of each arm reads a text. ``metric``: what is compared.
    """
    limits = demands.ratios
    taken: dict[Arm, list[Measurement]] = {"a": [], "b": []}
    differences: list[float] = []
    invalid = None
    while invalid is None and wants_more(differences, limits):
        pair = len(differences)
        for arm in order(pair):
            seen = measure(arm, pair)
            taken[arm].append(seen)
            invalid = invalid or _unusable(seen, metric, labels[arm])
        if invalid is None:
            differences.append(_log(taken["a"][-1], metric) - _log(taken["b"][-1], metric))
    checks = [_check(differences, limit) for limit in limits]
    memory = _memory_ratio(taken)
    if demands.max_memory_ratio is not None:
        checks.append(_memory_check(memory, demands.max_memory_ratio))
    perplexity, trouble = _perplexity_ratio(taken)
    if demands.max_perplexity_increase is not None:
        checks.append(_perplexity_check(perplexity, demands.max_perplexity_increase, trouble))
    verdict = worst([check.verdict for check in checks]) if checks else None
    found = ratio_of(differences) if differences else None
    return Comparison(
        name=name,
        metric=metric,
        label_a=labels["a"],
        label_b=labels["b"],
        ratio=found.ratio if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        pairs=len(differences),
        memory_ratio=memory,
        perplexity_ratio=perplexity,
        verdict=Verdict.INVALID if invalid else verdict,
        checks=checks,
        invalid=invalid,
        a=taken["a"],
        b=taken["b"],
    )


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
    reason = ""
    if verdict is Verdict.INCONCLUSIVE:
        reason = f"{limit.text}: not decided by {len(differences)} pairs"
    return RatioCheck(text=limit.text, verdict=verdict, reason=reason)


def _memory_ratio(taken: Mapping[Arm, Sequence[Measurement]]) -> float | None:
    """Of the memory where the model is: that of the GPU if both tell it, else RAM."""
    for metric in _MEMORY:
        medians = {
            arm: statistics.median(each.metrics[metric].median for each in seen)
            for arm, seen in taken.items()
            if seen and all(metric in each.metrics for each in seen)
        }
        if len(medians) == len(taken) and medians["b"] > 0:
            return medians["a"] / medians["b"]
    return None


def _perplexity_ratio(
    taken: Mapping[Arm, Sequence[Measurement]],
) -> tuple[float | None, str]:
    """Of the first of each arm: the same model reads the same text in the same way again.

    None, and why, where they did not both read the same tokens.
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
    return a.perplexity.value / b.perplexity.value, ""


def _perplexity_check(ratio: float | None, most: float, trouble: str) -> RatioCheck:
    text = f"{PERPLEXITY_LIMIT}={most:.3g}"
    if ratio is None:
        reason = f"{text}: {trouble}"
        return RatioCheck(text=text, verdict=Verdict.INCONCLUSIVE, reason=reason)
    verdict = Verdict.PASSED if ratio - 1 <= most else Verdict.OVER_BUDGET
    return RatioCheck(text=text, verdict=verdict, reason="")


def _memory_check(ratio: float | None, most: float) -> RatioCheck:
    text = f"{MEMORY_LIMIT}={most:g}"
    if ratio is None:
        reason = f"{text}: the memory of an arm is not known"
        return RatioCheck(text=text, verdict=Verdict.INCONCLUSIVE, reason=reason)
    verdict = Verdict.PASSED if ratio <= most else Verdict.OVER_BUDGET
    return RatioCheck(text=text, verdict=verdict, reason="")
