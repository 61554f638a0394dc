"""How does one measurement look by itself, whole, on a page 80 columns wide?"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pytest_llmperf.fit.before_load import Expectation
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement, Quantity
from pytest_llmperf.measure.bottleneck import find_bottleneck
from pytest_llmperf.measure.byte_figure import ByteFigure
from pytest_llmperf.measure.conditions import Conditions
from pytest_llmperf.measure.memory import MemoryUse
from pytest_llmperf.report import words

_NAME = 14
_NUMBER = 9
_TEXT = _NAME + _NUMBER + 8
"""Column at which the words beside a number begin."""
_SPEEDS = ("decode_tps", "prefill_tps", "queue_tps", "step_tokens")
_LATENCIES = ("ttft", "itl", "icl", "tpot", "e2e")
_PERCENTILES = ("p50", "p90", "p95", "p99")
_PARTS = (
    ("peak", "peak"),
    ("load", "load"),
    ("prefill", "prefill"),
    ("decode", "decode"),
    ("anon", "private"),
    ("file", "files"),
    ("pss", "divided"),
)


def page(measurement: Measurement, hardware: Hardware, width: int = 80) -> str:
    """Speed, latency, memory by phase, share of the roofline, conditions, and what limits it."""
    blocks = [
        list(_head(measurement, hardware)),
        list(_speed(measurement)),
        list(_latency(measurement)),
        list(_memory(measurement)),
        list(_roofline(measurement)),
        list(_clocks(measurement)),
        list(_conditions(measurement)),
        [f"note: {finding}" for finding in measurement.findings],
        [find_bottleneck(measurement).sentence],
    ]
    lines = [line for block in blocks if block for line in [*block, ""]]
    return "\n".join(folded for line in lines for folded in _fold(line, width)).rstrip()


def _fold(line: str, width: int) -> list[str]:
    """Lines too long go on under their own text."""
    column = 2
    if line.startswith("  "):
        column = _TEXT if line[_NAME : _NAME + 1].isspace() else _NAME
    return textwrap.wrap(line, width, subsequent_indent=" " * column) or [""]


def _row(name: str, text: str) -> str:
    return f"{'  ' + name:<{_NAME}}{text}"


def _number(name: str, value: str, unit: str, text: str) -> str:
    """A number in its column, its unit, and words beside it."""
    return f"{'  ' + name:<{_NAME}}{value:>{_NUMBER}} {unit:<6} {text}".rstrip()


def _head(measurement: Measurement, hardware: Hardware) -> Iterator[str]:
    who = f"{measurement.backend} {measurement.version} · {words.model(measurement)}"
    yield f"{who} · {words.workload(measurement)}"
    yield words.machine(hardware)
    if measurement.invalid:
        yield f"INVALID: {measurement.invalid}"


def _speed(measurement: Measurement) -> Iterator[str]:
    told = [name for name in _SPEEDS if name in measurement.metrics]
    if not told:
        return
    yield "speed"
    for name in told:
        seen = measurement.metrics[name]
        label = BY_NAME[name].label
        yield _number(label, words.number(seen.median), seen.unit, words.spread(seen))
    loaded = measurement.metrics["load"]
    yield _number("load", words.number(loaded.median), loaded.unit, loaded.how)
    compile_s = measurement.engine.compile_s
    if compile_s is not None:
        yield _number("compile", words.number(compile_s), "s", "of the load")


def _latency(measurement: Measurement) -> Iterator[str]:
    told = [name for name in _LATENCIES if name in measurement.metrics]
    if not told:
        return
    heads = "".join(f"{name:>{_NUMBER}}" for name in _PERCENTILES)
    yield f"{'latency':<{_NAME}}{heads}  ms"
    for name in told:
        seen = measurement.metrics[name]
        numbers = (words.number(seen.percentiles[each]) for each in _PERCENTILES)
        yield _row(
            BY_NAME[name].label,
            "".join(f"{number:>{_NUMBER}}" for number in numbers) + f"  of {seen.n}",
        )


def _memory(measurement: Measurement) -> Iterator[str]:
    used = measurement.memory
    metrics = ("ram", "vram")
    missing = [metric for metric in metrics if metric in measurement.absent]
    if used is None and not measurement.devices and not missing:
        return
    yield "memory"
    for metric in missing:
        yield _row(BY_NAME[metric].label, f"unknown: {measurement.absent[metric]}")
    if used is not None:
        yield from _ram(used)
    if measurement.expected is not None:
        yield from _expected(measurement.expected)
    for device in measurement.devices:
        for name, figure in (("VRAM", device.vram), ("allocated", device.allocated)):
            if figure is not None:
                yield _bytes(name, figure)
        if device.note:
            yield _row("VRAM", device.note)


def _ram(used: MemoryUse) -> Iterator[str]:
    for field, name in _PARTS:
        figure = getattr(used, field)
        if figure is not None:
            yield _bytes(name, figure)
        elif field in used.unknown:
            yield _row(name, f"unknown: {used.unknown[field]}")


def _expected(expected: Expectation) -> Iterator[str]:
    for share in expected.footprint.shares:
        low, high = words.size(share.total.low), words.size(share.total.high)
        text = f"{low} to {high} by arithmetic, at {expected.footprint.context_tokens} tokens"
        yield _row("expected", f"{share.device}: {text}")
    if expected.chosen:
        yield _row("chosen", expected.chosen)
    for each in expected.rejected:
        yield _row("rejected", f"{each.what}: {each.why}")


def _bytes(name: str, figure: ByteFigure) -> str:
    """``exact ± 256 KiB``, or a bound with both its ends, and how it was taken."""
    value, _, unit = words.size(figure.bytes).partition(" ")
    worth = f"{figure.kind}"
    if figure.slack_bytes:
        worth += f" ± {words.size(figure.slack_bytes)}"
    if figure.low_bytes is not None:
        worth += f", not below {words.size(figure.low_bytes)}"
    return _number(name, value, unit, f"{worth}: {figure.how}")


def _roofline(measurement: Measurement) -> Iterator[str]:
    lines = []
    for name, text in (("mbu", "bandwidth"), ("mfu", "compute")):
        seen: Quantity | None = measurement.metrics.get(name)
        if seen is not None:
            lines.append(_number(text, f"{seen.median * 100:.0f}", "%", seen.how))
        elif name in measurement.absent:
            lines.append(_number(text, "–", "", measurement.absent[name]))
    if lines:
        yield "share of what this machine can do"
        yield from lines
    probe = None if measurement.roofline is None else measurement.roofline.calibration
    if probe is not None:
        best, middle = (
            f"{rate / 1e9:.1f}" for rate in (probe.bandwidth_best, probe.bandwidth_median)
        )
        yield _row("probe", f"best {best}, median {middle} GB/s of {probe.repeats}: {probe.how}")


def _clocks(measurement: Measurement) -> Iterator[str]:
    if measurement.clocks:
        yield "the engine's own clock against ours"
    for clock in measurement.clocks:
        yield _number(clock.span, f"{clock.difference * 100:+.1f}", "%", "")


def _conditions(measurement: Measurement) -> Iterator[str]:
    seen = measurement.conditions
    if seen is None:
        return
    yield "conditions"
    for name, text in condition_rows(seen):
        yield _row(name, text)
    for gpu in measurement.gpu_conditions:
        slow = [f"{cause} {share:.0%}" for cause, share in gpu.slowdown.items()]
        yield _row("GPU slowed", f"{', '.join(slow) or 'unknown'} ({gpu.gpu})")
    if seen.unknown:
        yield _row("unknown", "; ".join(f"{name}: {why}" for name, why in seen.unknown.items()))


def condition_rows(seen: Conditions) -> Iterator[tuple[str, str]]:
    """Name and text of every condition that is known."""
    if seen.own_cpu_share is not None:
        yield "own CPU", f"{seen.own_cpu_share:.0%} of {seen.threads} threads"
    if seen.other_cores is not None:
        yield "others", f"{seen.other_cores:.2f} of {seen.cores} cores"
    if seen.steal_cores is not None:
        yield "stolen", f"{seen.steal_cores:.2f} cores"
    if seen.pressure:
        told = [f"{name} {share:.0%}" for name, share in seen.pressure.items()]
        yield "pressure", ", ".join(told)
    if seen.throttled_share is not None:
        yield "throttled", f"{seen.throttled_share:.0%} of the time"
    if seen.thermal_share is not None:
        yield "too hot", f"{seen.thermal_share:.0%} of the time"
    if seen.major_faults:
        told = [f"{count} in {phase}" for phase, count in seen.major_faults.items()]
        yield "page faults", f"major: {', '.join(told)}"
    if seen.disk_read_bytes is not None:
        yield "disk reads", words.size(seen.disk_read_bytes)
    yield "reading", f"{seen.reading_ms:.2f} ms at the most, {2 * seen.blocks} times"
