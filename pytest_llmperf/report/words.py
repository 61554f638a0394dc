"""How is a fact said to a person? Numbers with units, models, machines, in a few characters."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from pathlib import Path

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Measurement, Quantity
from pytest_llmperf.measure.reading import SHIPPED
from pytest_llmperf.measure.workload import RANDOM

_WIDTH = 80
VERDICTS = {
    Verdict.PASSED: "passed",
    Verdict.IMPROVED: "improved",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.NO_BASELINE: "without baseline",
    Verdict.REGRESSED: "regressed",
    Verdict.OVER_BUDGET: "over budget",
    Verdict.INVALID: "invalid",
}
"""What so many of them are called: ``3 regressed``."""


def folded(text: str, indent: int) -> list[str]:
    """Lines of a terminal of 80 columns, the further ones ``indent`` deep; ``5 %`` stays whole."""
    lines = textwrap.wrap(
        text.replace(" %", "\N{NO-BREAK SPACE}%"),
        _WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}%", " %") for line in lines]


def number(value: float) -> str:
    """Three significant digits, more before the point when there are more."""
    if 0 < abs(value) < 0.1:
        return f"{value:.3g}"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def count(things: int, noun: str) -> str:
    """``1 session``, ``9 sessions``."""
    return f"{things} {noun}{'' if things == 1 else 's'}"


def limit(value: float) -> str:
    """A limit as its author wrote it."""
    return f"{value:.12g}"


def percent(share: float) -> str:
    """``5 %``, and ``2.5 %`` where the whole number would not say it."""
    return f"{share * 100:.2g} %" if abs(share) < 0.1 else f"{share * 100:.0f} %"


def change(share: float) -> str:
    """``−13 %``, with a sign that is as wide as the plus."""
    return f"{share * 100:+.{0 if abs(share) >= 0.1 else 1}f} %".replace("-", "−")


def between(ends: tuple[float, float]) -> str:
    """``−9.0 % to −3.1 %``."""
    low, high = ends
    return f"{change(low)} to {change(high)}"


def apart(value: float, other: float) -> str:
    """``value`` with as many digits as it takes not to read like ``other``: 19.97, not 20.0."""
    text = number(value)
    for digits in range(4, 16):
        if float(text) != other:
            break
        text = f"{value:.{digits}g}"
    return text


def labelled(
    metric: str, value: float, percentile: int | None = None, *, against: float | None = None
) -> str:
    """``decode 19.1 tok/s``, ``first token p95 210 ms``; told apart from a limit if given one."""
    known = BY_NAME[metric]
    tail = f" p{percentile}" if percentile else ""
    text = number(value) if against is None else apart(value, against)
    return f"{known.label}{tail} {text} {known.unit}".rstrip()


def spread(quantity: Quantity) -> str:
    """``median of 10, 18.9–19.4``; the range is that of the quartiles."""
    if not quantity.percentiles:
        error = "" if quantity.error is None else f" ± {number(quantity.error)}"
        return f"mean of {quantity.n} positions{error}"
    if quantity.n == 1:
        return "one value"
    return f"median of {quantity.n}, {number(quantity.low)}–{number(quantity.high)}"


def model(measurement: Measurement) -> str:
    """``llama-160m Q4_K_M``: the source's last part, and what is really in the files."""
    source = measurement.spec.source
    if source.startswith("hf:"):
        source = source.partition("@")[0]
    name = source.partition(":")[2] if source.startswith(("synthetic:", "hf:")) else source
    short = name.rstrip("/").rpartition("/")[2] or name
    files = measurement.files
    if files is None or files.quantization in re.split(r"[-.@]", short):
        return short
    return f"{short} {files.quantization}"


def workload(measurement: Measurement) -> str:
    """``512+128 tokens``: prompt and new; batch and depth where there are any."""
    asked = measurement.workload
    batch = f"{asked.batch} × " if asked.batch > 1 else ""
    depth = f" at depth {asked.depth}" if asked.depth else ""
    text = "" if asked.prompts == RANDOM else f" of {_text(asked.prompts)}"
    return f"{batch}{asked.prompt_tokens}+{asked.new} tokens{text}{depth}"


def _text(prompts: str) -> str:
    return "text" if prompts == SHIPPED else Path(prompts).name


def machine(hardware: Hardware) -> str:
    """``2 cores AMD EPYC (avx512)`` or ``2× RTX 4060 Ti (16 GB)``."""
    if hardware.gpus:
        names = Counter(
            f"{gpu.name} ({gpu.memory_bytes / 2**30:.0f} GB)" if gpu.memory_bytes else gpu.name
            for gpu in hardware.gpus
        )
        return ", ".join(f"{count}× {name}" for name, count in names.items())
    cpu = hardware.cpu
    memory = f"{hardware.memory.capacity_bytes / 2**30:.0f} GB RAM"
    return f"{count(cpu.usable_cores, 'core')} {cpu.model_name or cpu.vendor} ({cpu.isa}), {memory}"


def size(size_bytes: int) -> str:
    """``96 KiB``, ``2 MiB``, ``23.5 GiB``."""
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if size_bytes >= 1 << power:
            return f"{size_bytes / (1 << power):.4g} {unit}"
    return f"{size_bytes / 1024:.4g} KiB"
