"""What does a red test say? Short, complete, no traceback."""

from __future__ import annotations

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.past import SEEDED_SESSIONS
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report import words
from pytest_llmperf.report.result import CheckResult, JudgedMeasurement

_WIDTH = 11


def failure_text(judged: list[JudgedMeasurement], hardware: Hardware, *, strict: bool) -> str:
    """Every failed measurement of a test: what broke, what was measured, where."""
    failed = [each for each in judged if each.verdict.fails(strict=strict)]
    blocks = [block(each, hardware, named=len(judged) > 1) for each in failed]
    return "\n".join(blocks)


def block(judged: JudgedMeasurement, hardware: Hardware, *, named: bool) -> str:
    """One failed measurement."""
    lines = headlines(judged)
    if named:
        lines.append(_row("measure", judged.measurement.name))
    broken = [check for check in judged.checks if check.verdict is Verdict.OVER_BUDGET]
    regressed = [pair for pair in judged.pairs if _is(pair, Verdict.REGRESSED)]
    lines += [_row("measured", text) for text in _measured(judged, broken, regressed)]
    lines.append(_row("engine", _engine(judged)))
    lines += [
        _row(BY_NAME[check.metric].name, how) for check in broken for how in _how(judged, check)
    ]
    lines.append(_row("machine", words.machine(hardware)))
    lines.append(_row("state", " · ".join(_state(judged))))
    again = _again(judged.measurement)
    lines += [_row("confirmed", text) for text in _confirmed(broken, regressed, again)]
    lines += _baselines(judged.pairs)
    if broken:
        lines += [_row("unjudged", reason) for reason in judged.reasons]
    lines += [_row("note", finding) for finding in judged.measurement.findings]
    if regressed:
        lines.append(_row("if wanted", "--llmperf-accept=WHY makes it the new normal"))
    return "\n".join(lines)


def headlines(judged: JudgedMeasurement) -> list[str]:
    """What is wrong, one line for each broken budget or reason."""
    if judged.verdict is Verdict.INVALID:
        return [f"measurement invalid: {reason}" for reason in judged.reasons]
    broken = [
        f"perf budget broken: {_against(check)}"
        for check in judged.checks
        if check.verdict is Verdict.OVER_BUDGET
    ]
    broken += [
        f"perf regressed: {_loss(pair)}" for pair in judged.pairs if _is(pair, Verdict.REGRESSED)
    ]
    return broken or [f"red under --llmperf-strict: {reason}" for reason in judged.reasons]


def _is(pair: PairResult, verdict: Verdict) -> bool:
    return pair.is_gated and pair.verdict is verdict


def _is_told(pair: PairResult) -> bool:
    """Whether its baseline belongs into the text: it turned the test red, or would say why."""
    return pair.is_gated and pair.normal is not None and pair.verdict is not Verdict.PASSED


def _loss(pair: PairResult) -> str:
    """``decode 19.1 tok/s is 13 % below its baseline, 3 % is tolerated``."""
    value = words.labelled(pair.key.metric, pair.value)
    change = pair.change or 0.0
    side = "below" if change < 0 else "above"
    tolerated = words.percent(pair.tolerance)
    return f"{value} is {words.percent(abs(change))} {side} its baseline, {tolerated} is tolerated"


def _baselines(pairs: list[PairResult]) -> list[str]:
    """``21.9 tok/s (2026-11-02, 9 sessions) → −13 %, REGRESSED``, and how sure that is."""
    told = [pair for pair in pairs if _is_told(pair)]
    rows = []
    for pair in told:
        metric = BY_NAME[pair.key.metric]
        assert pair.normal is not None
        which = f"{metric.label} " if len(told) > 1 else ""
        known = f"{words.number(pair.normal)} {metric.unit}"
        change = "" if pair.change is None else f" → {words.change(pair.change)}"
        rows.append(
            _row(
                "baseline",
                f"{which}{known} ({pair.since}, {_known_from(pair)}){change}, {pair.verdict}",
            )
        )
        if pair.interval is not None and pair.least_found is not None:
            least = words.percent(abs(pair.least_found))
            found = f"losses of {least} are found four times in five"
            rows.append(_row("certainty", f"{words.between(pair.interval)}; {found}"))
    return rows


def _known_from(pair: PairResult) -> str:
    """``9 sessions``; a seed is no session, however many the judge takes it for."""
    if not pair.seed_runs:
        return words.count(pair.judgement.sessions, "session")
    own = pair.judgement.sessions - SEEDED_SESSIONS
    seed = f"a seed of {pair.seed_runs} runs"
    return f"{seed} and {words.count(own, 'session')}" if own > 0 else seed


def _against(check: CheckResult) -> str:
    assert check.decided is not None
    sign = "<" if BY_NAME[check.metric].better == "higher" else ">"
    value = words.labelled(check.metric, check.decided, check.percentile, against=check.limit)
    both = " (median of two processes)" if check.confirmed is not None else ""
    return f"{value}{both} {sign} {check.keyword}={words.limit(check.limit)}"


def _measured(
    judged: JudgedMeasurement, broken: list[CheckResult], regressed: list[PairResult]
) -> list[str]:
    """What the first process saw of the first broken budget, and of all that regressed."""
    seen = judged.measurement
    told = [_value(judged, check) for check in broken[:1] if check.measured is not None]
    metrics = [pair.key.metric for pair in regressed]
    metrics = [each for each in metrics if not broken or each != broken[0].metric]
    for metric in metrics:
        quantity = seen.metrics[metric]
        value = f"{words.number(quantity.median)} {BY_NAME[metric].unit}"
        which = f"{BY_NAME[metric].label} " if len(metrics) + len(told) > 1 else ""
        told.append(f"{which}{value} ({words.spread(quantity)})")
    return [", ".join(filter(None, (each, words.workload(seen)))) for each in told or [""]]


def _value(judged: JudgedMeasurement, check: CheckResult) -> str:
    assert check.measured is not None
    value = f"{words.apart(check.measured, check.limit)} {BY_NAME[check.metric].unit}".strip()
    seen = judged.measurement.metrics[check.metric]
    spread = f"p{check.percentile} of {seen.n}" if check.percentile else words.spread(seen)
    return f"{value} ({spread})"


def _again(measurement: Measurement) -> tuple[str, str]:
    """Who looked a second time: one, and several of them."""
    if measurement.engine.server == "met":
        return "by the same server, asked again", "by the same server, asked {} times more"
    return "in a fresh process", "in {} fresh processes"


def _confirmed(
    broken: list[CheckResult], regressed: list[PairResult], again: tuple[str, str]
) -> list[str]:
    """What fresh processes saw: the first of them of budgets, all of what regressed."""
    one, several = again
    seen_again = [
        words.labelled(check.metric, check.confirmed, check.percentile)
        for check in broken
        if check.confirmed is not None
    ]
    rows = [f"{one}: {', '.join(seen_again)}"] if seen_again else []
    for pair in regressed:
        seen = pair.confirmed
        if not seen:
            continue
        where = one if len(seen) == 1 else several.format(len(seen))
        which = f"{BY_NAME[pair.key.metric].label} " if len(regressed) > 1 else ""
        rows.append(f"{where}: {which}{', '.join(map(words.number, seen))}")
    return rows


def _how(judged: JudgedMeasurement, check: CheckResult) -> list[str]:
    """How the number of a broken budget came about, where its name does not say it all."""
    seen = judged.measurement.metrics.get(check.metric)
    if seen is None or not seen.how:
        return []
    if seen.unit != "GiB":
        return [seen.how]
    slack = f" ± {words.size(round(seen.slack * 2**30))}" if seen.slack else ""
    return [f"{seen.kind}{slack}: {seen.how}"]


def _state(judged: JudgedMeasurement) -> list[str]:
    """``71 % of memory bandwidth``, ``not throttled``, ``steady``: what is known of them."""
    measurement = judged.measurement
    known = []
    share = measurement.metrics.get("mbu")
    if share is not None:
        known.append(f"{share.median * 100:.0f} % of memory bandwidth")
    told = [measurement.slowed_share("thermal", "board", "reliability")]
    if measurement.conditions is not None:
        told.append(measurement.conditions.throttled_share)
    slowed = max((share for share in told if share is not None), default=None)
    if slowed is not None:
        known.append(f"throttled {slowed:.0%}" if slowed >= 0.01 else "not throttled")
    known.append("steady" if measurement.steady else "not steady")
    return known


def _engine(judged: JudgedMeasurement) -> str:
    measurement = judged.measurement
    return f"{measurement.backend} {measurement.version}, {words.model(measurement)}"


def _row(name: str, text: str) -> str:
    label = f"{name:<{_WIDTH}}" if len(name) < _WIDTH else f"{name} "
    return "\n".join(words.folded(f"  {label}{text}", 2 + _WIDTH))
