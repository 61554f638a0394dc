"""What does each backend really do here? The table of docs/backends.md, from a run of each.

    python benchmarks/backend_table.py [--python NAME=PATH]... [--packed FOLDER] [--write]

Each backend measures the same synthetic model with `pytest-llmperf run`: 256 prompt tokens, 64 new
ones, five samples; then a batch of three. What cannot run here has the reason in its row. With
`--python`, the interpreters of `vllm` and `gptq`; `--packed`: the same model, by `pack_gptq.py`.
`--write` puts the table into docs/backends.md, between its two marks.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paired import machine

DOCS = Path(__file__).parents[1] / "docs" / "backends.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
SOURCE = "synthetic:llama-160m"
WORK = ("--prompt-tokens", "256", "--new-tokens", "64", "--samples", "5", "--json")
HEAD = (
    "| backend | version | weights | load s | tokens | TTFT ms | decode tok/s | ITL p50 / p99 ms |"
    " batch of 3, tok/s | RAM GiB | GPU |"
)
TIMEOUT_S = 900


class Row(NamedTuple):
    """One way of running the model."""

    backend: str
    options: tuple[str, ...] = ()
    batch_options: tuple[str, ...] = ()
    quantization: str | None = None
    source: str = SOURCE
    python: str | None = None
    """Which of the interpreters runs it; None: that of its backend, or ours."""
    served_by: str | None = None
    """Which of them its server wants."""
    packed: str = ""

    @property
    def title(self) -> str:
        """``transformers nf4``."""
        kinds = (each.partition("=")[2] for each in self.options)
        return " ".join(filter(None, (self.backend, *kinds, self.packed)))


ROWS = (
    Row("llama-cpp", batch_options=("n_seq_max=3", "n_ctx=3072")),
    Row("transformers"),
    Row("transformers", ("quantize=nf4",)),
    Row("transformers", ("quantize=int8",)),
    Row("transformers", ("quantize=quanto-int8",)),
    Row("transformers", ("quantize=torchao-int8",)),
    Row("transformers", source="", python="gptq", packed="GPTQ"),
    Row("onnxruntime"),
    Row("onnxruntime", quantization="F32"),
    Row("openai", ("server=llama-server",)),
    Row("openai", ("server=vllm",), served_by="vllm"),
    Row("vllm", batch_options=("max_num_seqs=3",)),
    Row("ollama"),
    Row("tensorrt-llm"),
    Row("exllamav2"),
)


def measured(row: Row, more: Sequence[str], extra: Sequence[str] = ()) -> dict[str, Any] | str:
    """The result of one run, or the line that says why there is none."""
    options = [word for each in (*row.options, *extra) for word in ("-o", each)]
    kind = ["--quantization", row.quantization] if row.quantization else []
    command = [sys.executable, "-m", "pytest_llmperf", "run", row.source, "--backend", row.backend]
    try:
        done = subprocess.run(
            [*command, *kind, *options, *WORK, *more],
            capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no result in {TIMEOUT_S} s"
    if not done.stdout.strip():
        _, said, told = done.stderr.partition("pytest-llmperf run: ")
        return " ".join(told.split()) if said else f"exit {done.returncode}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cells(row: Row, more: Sequence[str]) -> list[str]:
    """One line of the table."""
    one = measured(row, more)
    if isinstance(one, str):
        return _no_row(row, one)
    result = one["measurement"]
    metrics = result["metrics"]
    if "itl" not in metrics:
        return [
            f"`{row.title}`",
            result["version"],
            *["–"] * 8,
            _cell(f"INVALID: {result['invalid']}"),
        ]
    together = measured(row, (*more, "--batch", "3"), row.batch_options)
    held = result["engine"]["options"].get("quantize") or (result["files"] or {}).get(
        "quantization"
    )
    gaps = metrics["itl"]["percentiles"]
    return [
        f"`{row.title}`",
        result["version"],
        held or "–",
        f"{metrics['load']['median']:.1f}",
        "exact" if result["invalid"] is None else f"INVALID: {result['invalid']}",
        f"{metrics['ttft']['median']:.0f}",
        f"{metrics['decode_tps']['median']:.1f}",
        f"{gaps['p50']:.1f} / {gaps['p99']:.1f}",
        _cell(together) if isinstance(together, str) else _decode(together),
        f"{metrics['ram']['median']:.2f} {metrics['ram']['kind']}" if "ram" in metrics else "–",
        result["engine"]["device"] if one["hardware"]["accelerators"] else "unproven",
    ]


def _line(row: Row, pythons: dict[str, str], packed: str | None) -> list[str]:
    """One row, with the interpreters and the folder that it needs."""
    if not row.source:
        if packed is None or row.python not in pythons:
            return _no_row(row, f"needs --python {row.python}=PATH and --packed FOLDER")
        row = row._replace(source=packed)
    more: list[str] = []
    path = pythons.get(row.python or row.backend)
    if path is not None:
        more += ["--python", path]
    if row.served_by is not None:
        if row.served_by not in pythons:
            return _no_row(row, f"needs --python {row.served_by}=PATH")
        more += ["-o", f"python={pythons[row.served_by]}"]
    return cells(row, more)


def _no_row(row: Row, why: str) -> list[str]:
    return [f"`{row.title}`", *["–"] * 9, _cell(why)]


def _decode(found: dict[str, Any]) -> str:
    result = found["measurement"]
    if result["invalid"] is not None:
        return _cell(f"INVALID: {result['invalid']}")
    return f"{result['metrics']['decode_tps']['median']:.1f}"


def _cell(text: str) -> str:
    return text.replace("|", "/")


def write(lines: Sequence[str]) -> None:
    """Put the table, as far as it is, between its marks."""
    text = DOCS.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    day = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    said = [f"{SOURCE}, 256 + 64 tokens, {day}, {machine()}:", "", *lines, ""]
    DOCS.write_text(text[:begin] + "\n".join(said) + text[end:])


def main() -> int:
    """Run all rows; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--packed", metavar="FOLDER")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    pythons = dict(each.split("=", 1) for each in options.python)
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for row in ROWS:
        lines.append(f"| {' | '.join(_line(row, pythons, options.packed))} |")
        print(lines[-1], flush=True)
        if options.write:
            write(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
