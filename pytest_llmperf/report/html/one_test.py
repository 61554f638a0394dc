"""What does the page tell of one test?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.measure import Measurement
from pytest_llmperf.measure.bottleneck import find_bottleneck
from pytest_llmperf.report import words
from pytest_llmperf.report.comparison import comparison_line
from pytest_llmperf.report.html import chips, one_measurement
from pytest_llmperf.report.html.drawing import Rows
from pytest_llmperf.report.html.model import (
    Cell,
    Compared,
    Fact,
    Figure,
    Headline,
    Measured,
    Table,
    Test,
)
from pytest_llmperf.report.html.saying import (
    change_of,
    name_of,
    table,
    value_of,
    who_of,
)
from pytest_llmperf.report.html.sessions import Past, series
from pytest_llmperf.report.merged import Machine
from pytest_llmperf.report.page import condition_rows
from pytest_llmperf.report.result import (
    CheckResult,
    Comparison,
    JudgedMeasurement,
    JudgedTest,
)

HEADLINES = ("decode_tps", "prefill_tps", "ttft", "ram")
"""Shown in each test's line."""


def anchor_of(test: JudgedTest, machine: Machine) -> str:
    """The test's id within every page: the same for the same test on the same machine."""
    text = f"{machine.hardware.fingerprint}\0{test.test}"
    return f"t-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"


def link(test: JudgedTest, machine: Machine) -> Cell:
    """To where the test is told whole."""
    return Cell(name_of(test)[1], href=f"#{anchor_of(test, machine)}")


def told(test: JudgedTest, machine: Machine, number: int, past: Past) -> Test:
    """``number``: of the machine, among the page's."""
    path, name = name_of(test)
    chip = chips.of_test(test, machine)
    return Test(
        anchor=anchor_of(test, machine),
        nodeid=test.test,
        path=path,
        name=name,
        who=_who(test),
        machine=number,
        chip=chip,
        rank=chips.rank(chip),
        numbers=tuple(_headlines(test)),
        reason=test.reason or "",
        facts=tuple(_facts(test)),
        measured=tuple(_measured(test, each, past) for each in test.measurements),
        compared=tuple(_compared(each) for each in test.comparisons),
        opens_in_print=test in machine.red,
    )


def _seen(test: JudgedTest) -> list[Measurement]:
    found = [each.measurement for each in test.measurements]
    return found + [each for compared in test.comparisons for each in compared.a[:1]]


def _who(test: JudgedTest) -> str:
    return "; ".join(dict.fromkeys(f"{each.backend} {words.model(each)}" for each in _seen(test)))


def _headlines(test: JudgedTest) -> Iterator[Headline]:
    """Of the first measurement, and the largest loss of all pairs."""
    first = test.measurements[0] if test.measurements else None
    for name in HEADLINES:
        shown = name if first is None else _shown(first, name)
        value = None if first is None else first.value(shown)
        text = "–" if value is None else value_of(shown, value)
        yield Headline(BY_NAME[shown].label, text, value)
    compared = [
        pair
        for each in test.measurements
        for pair in each.pairs
        if pair.judgement.effect is not None
    ]
    worst = min(compared, key=lambda pair: pair.judgement.effect or 0.0, default=None)
    if worst is None:
        yield Headline("against the baseline", "–", None)
    else:
        label = f"{BY_NAME[worst.key.metric].label} {change_of(worst)}"
        yield Headline("against the baseline", label, worst.judgement.effect)


def _shown(judged: JudgedMeasurement, metric: str) -> str:
    """Of a queue its own speed instead of decode; of a model on a GPU the memory there."""
    metrics = judged.measurement.metrics
    if metric == "decode_tps" and metric not in metrics and "queue_tps" in metrics:
        return "queue_tps"
    return "vram" if metric == "ram" and judged.value("vram") else metric


def _facts(test: JudgedTest) -> Iterator[Fact]:
    yield Fact("test", test.test)
    for name, value in test.parameters.items():
        yield Fact(name, str(value))
    if test.claim is not None:
        yield Fact("claim", test.claim.text)
        if test.claim.instead:
            yield Fact("what is true instead", test.claim.instead)
    for name, text in test.told.items():
        yield Fact(name, text)


def _measured(test: JudgedTest, judged: JudgedMeasurement, past: Past) -> Measured:
    seen = judged.measurement
    return Measured(
        title=seen.name if len(test.measurements) > 1 else "",
        chip=chips.of_verdict(judged.verdict),
        who=who_of(seen),
        reasons=tuple(filter(None, (seen.invalid, *judged.reasons))),
        metrics=_metrics(judged),
        figures=tuple(_figures(judged, past)),
        limited_by=find_bottleneck(seen).sentence,
        conditions=tuple(_conditions(seen)),
        options=tuple(_options(seen)),
        findings=tuple(seen.findings),
    )


def _figures(judged: JudgedMeasurement, past: Past) -> Iterator[Figure]:
    seen = judged.measurement
    yield from _series(judged, past)
    yield from one_measurement.samples([seen, *judged.second_look])
    for draw in (one_measurement.latency, one_measurement.memory, one_measurement.roofline):
        figure = draw(seen)
        if figure is not None:
            yield figure


def _series(judged: JudgedMeasurement, past: Past) -> Iterator[Figure]:
    for pair in judged.pairs:
        figure = series(pair, past(pair, judged.measurement.metrics[pair.key.metric].median))
        if figure is not None:
            yield figure


def _metrics(judged: JudgedMeasurement) -> Table:
    """Every metric with its limits and its baseline; then what is absent, and why."""
    rows: list[tuple[str | Cell, ...]] = []
    for name, quantity, note in one_measurement.metric_notes(judged.measurement):
        pairs = [each for each in judged.pairs if each.key.metric == name]
        checks = [each for each in judged.checks if each.metric == name]
        known = BY_NAME.get(name)
        rows.append(
            (
                known.label if known else name,
                f"{words.number(quantity.median)} {quantity.unit}".rstrip(),
                note,
                "; ".join(map(_limit, checks)),
                "; ".join(map(_against, pairs)),
            )
        )
    for name, why in judged.measurement.absent.items():
        known = BY_NAME.get(name)
        rows.append((known.label if known else name, "–", why, "", ""))
    return table(("metric", "median", "spread, and how", "limit", "against the baseline"), rows)


def _limit(check: CheckResult) -> str:
    """``✓ min_tps=20``, and what was decided by where that is something else than the median."""
    symbol = chips.of_verdict(check.verdict).symbol
    text = f"{symbol} {check.keyword}={words.limit(check.limit)}"
    if check.decided is None:
        return f"{text}: not measured"
    is_told = check.percentile is not None or check.confirmed is not None
    return f"{text}: {words.apart(check.decided, check.limit)}" if is_told else text


def _against(pair: PairResult) -> str:
    """``✓ −1.2 % of 121 tok/s (−3.0 % to +0.6 %), would find −4.1 %``."""
    seen = pair.judgement
    symbol = chips.of_verdict(pair.verdict).symbol
    if pair.normal is None or seen.effect is None:
        return f"{symbol} {'; '.join(seen.reasons)}" if pair.is_gated else ""
    text = f"{symbol} {change_of(pair)} of {value_of(pair.key.metric, pair.normal)}"
    if pair.interval is not None:
        text += f" ({words.between(pair.interval)})"
    if pair.least_found is None:
        return text
    return f"{text}, would find {words.change(pair.least_found)}"


def _conditions(seen: Measurement) -> Iterator[Fact]:
    yield Fact("warm-up", f"{seen.warmup_samples} samples, {'' if seen.steady else 'not '}steady")
    if seen.conditions is not None:
        yield from (Fact(name, text) for name, text in condition_rows(seen.conditions))
    for gpu in seen.gpu_conditions:
        slowed = ", ".join(f"{why} {words.percent(s)}" for why, s in gpu.slowdown.items())
        yield Fact("GPU slowed", f"{slowed or 'unknown'} ({gpu.gpu})")
    if seen.conditions is not None and seen.conditions.unknown:
        unknown = (f"{name}: {why}" for name, why in seen.conditions.unknown.items())
        yield Fact("unknown", "; ".join(unknown))
    for clock in seen.clocks:
        change = words.change(clock.difference)
        yield Fact(f"engine's clock, {clock.span}", f"{change} against ours")


def _options(seen: Measurement) -> Iterator[Fact]:
    yield from (Fact(name, value) for name, value in seen.requested.items())
    if seen.engine.build:
        yield Fact("build", seen.engine.build)
    yield Fact("device", seen.engine.device)


def _compared(compared: Comparison) -> Compared:
    return Compared(
        title=f"{compared.label_a} against {compared.label_b}",
        chip=None if compared.verdict is None else chips.of_verdict(compared.verdict),
        told=" ".join(comparison_line(compared).split()),
        checks=tuple(
            f"{chips.of_verdict(each.verdict).symbol} {each.text}"
            + (f": {each.reason}" if each.reason else "")
            for each in compared.checks
        ),
        figure=_ratio(compared),
    )


def _ratio(compared: Comparison) -> Figure | None:
    found = (
        (BY_NAME[compared.metric].label, compared.ratio, compared.low, compared.high),
        ("memory", compared.memory_ratio, compared.memory_low, compared.memory_high),
        (
            "perplexity",
            compared.perplexity_ratio,
            compared.perplexity_low,
            compared.perplexity_high,
        ),
    )
    rows: Rows = [
        {
            "name": name,
            "ratio": ratio,
            "low": low,
            "high": high,
            "text": f"{words.number(ratio)} × ({words.number(low)}–{words.number(high)})",
        }
        for name, ratio, low, high in found
        if ratio is not None and low is not None and high is not None and high < 1e6
    ]
    if not rows:
        return None
    told = "; ".join(f"{each['name']} {each['text']}" for each in rows)
    data: dict[str, Rows] = {"ratios": rows, "one": [{"at": 1}]}
    return Figure("A ÷ B", f"{told}; in brackets the interval of 95 %.", "ratio", data)


def pairs_of(tests: Sequence[JudgedTest]) -> Iterator[tuple[JudgedTest, PairResult]]:
    """Every pair whose verdict counts, of a measurement that means something."""
    for test in tests:
        for judged in test.measurements:
            if judged.verdict is not Verdict.INVALID:
                yield from ((test, pair) for pair in judged.pairs if pair.is_gated)
