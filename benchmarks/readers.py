"""How fast is the header of a large model read, and what does a broken file cost?

    python benchmarks/readers.py [--quick] [--json FILE]

A GGUF file with 128,256 tokens and 280,147 merges is read by this package and, in turns, by the
reference package's GGUFReader; then files that promise more than they hold. Each reading is the
first one of a process of its own, with the file in the page cache. Its memory is that process's
peak less that of one that only imports.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from paired import Benchmark, Spread, Target, option_parser, take_turns

TOKENS, MERGES = 128_256, 280_147
READ_MS, READ_MB = Target(most=60), Target(most=20)
BROKEN_MS, BROKEN_MB = Target(most=100), Target(most=50)
OURS = ("from pytest_llmperf.models.gguf import read_gguf as read",)
SAFETENSORS = ("from pytest_llmperf.models.safetensors import read_safetensors as read",)
RIVAL = ("from gguf import GGUFReader as read",)
CHILD = """
import json, sys, time
from pathlib import Path
{imports}
failure, began = "", time.perf_counter()
if len(sys.argv) > 1:
    try:
        read(Path(sys.argv[1]))
    except Exception as error:
        failure = type(error).__name__
seconds = time.perf_counter() - began
peak, = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, int(peak.split()[1]) * 1024, failure]))
"""


class Cost(msgspec.Struct, frozen=True):
    """What one process needed to read a file."""

    ms: float
    peak_mb: float
    failure: str
    """Name of the exception; empty: there was none."""


def cost(imports: tuple[str, ...], path: Path | None, _turn: int = 0) -> Cost:
    """Read ``path`` in a process of its own; None: only import."""
    code = CHILD.format(imports="\n".join(imports))
    command = [sys.executable, "-c", code, *([str(path)] if path else [])]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    seconds, peak_bytes, failure = json.loads(told.stdout)
    return Cost(seconds * 1e3, peak_bytes / 1e6, failure)


def write_large(path: Path) -> None:
    """A header such as Llama 3's, and one tensor; tokens and merges as long as real ones."""
    tokens = [f"{number:x}" * (1 + number % 3) for number in range(TOKENS)]
    merges = [f"{number % 4096:x} {number:x}" for number in range(MERGES)]
    kinds = struct.pack(f"<{TOKENS}i", *[1] * TOKENS)
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 1, 4))
        file.write(text("general.architecture") + struct.pack("<I", 8) + text("llama"))
        file.write(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, TOKENS))
        file.write(b"".join(map(text, tokens)))
        file.write(text("tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, TOKENS) + kinds)
        file.write(text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, MERGES))
        file.write(b"".join(map(text, merges)))
        file.write(text("output.weight") + struct.pack("<IQIQ", 1, 32, 0, 0))
        file.write(b"\0" * (-file.tell() % 32 + 128))


def text(value: str) -> bytes:
    """A text as GGUF has it."""
    return struct.pack("<Q", len(value)) + value.encode()


def broken_files() -> Iterator[tuple[str, str, bytes, int]]:
    """(what is wrong, ending, content, size in bytes) of files that promise what they lack."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a")
    tensor = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t")
    kib, tib = 1 << 10, 1 << 40
    yield "2⁶⁰ tensors in 1 KiB", "gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), kib
    yield "a tensor of 1 TiB in 1 KiB", "gguf", tensor + struct.pack("<IQIQ", 1, tib, 24, 0), kib
    yield "a tensor at 2⁶³", "gguf", tensor + struct.pack("<IQIQ", 1, 32, 0, 2**63), kib
    yield "an array of 2⁶³ numbers", "gguf", head + struct.pack("<IIQ", 9, 0, 2**63), kib
    yield "a text of 2⁶² bytes", "gguf", head + struct.pack("<IQ", 8, 2**62), kib
    yield "arrays of arrays", "gguf", head + struct.pack("<IIQIQ", 9, 9, 2**40, 9, 2**40), tib
    yield "a million texts that are zeros", "gguf", head + struct.pack("<IIQ", 9, 8, 2**20), tib
    endless = head.replace(b"\1", b"\2", 1) + struct.pack("<IQ", 8, 2 * tib)
    yield "a header of 2 TiB", "gguf", endless, 3 * tib
    yield "zeros", "gguf", b"", tib
    yield "a length of 2⁶³", "safetensors", struct.pack("<Q", 2**63) + b"{", kib
    yield "99 MB of zeros as a header", "safetensors", struct.pack("<Q", 99_000_000) + b"{", tib
    nested = b'{"t":' + b"[" * 1_000_000
    yield "a million brackets", "safetensors", struct.pack("<Q", len(nested)) + nested, 2_000_000
    entry = b'{"t":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}'
    yield "1 TiB in 1 KiB", "safetensors", struct.pack("<Q", len(entry)) + entry, kib


def main() -> int:
    """Print both tables; the exit code is 1 when a target is missed."""
    options = option_parser(__doc__).parse_args()
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        read_large(benchmark, Path(folder) / "large.gguf")
        read_broken(benchmark, Path(folder))
    return benchmark.finish()


def read_large(benchmark: Benchmark, path: Path) -> None:
    """Both readers over the same file, in turns."""
    write_large(path)
    readers = {"pytest-llmperf": OURS}
    if importlib.util.find_spec("gguf") is None:
        benchmark.note("rival", "the package gguf is not installed: there is no rival")
    else:
        readers["gguf (GGUFReader)"] = RIVAL
    arms: list[Callable[[int], Cost]] = []
    for imports in readers.values():
        arms += [functools.partial(cost, imports, path), functools.partial(cost, imports, None)]
    results = take_turns(3 if benchmark.quick else 15, arms)  # the rival takes seconds
    benchmark.note("file", f"{TOKENS:,} tokens, {MERGES:,} merges, {path.stat().st_size:,} bytes")
    benchmark.head("reader:22", "ms:26", "MB:8", "import MB:12")
    for row, name in enumerate(readers):
        reading, importing = results[2 * row], results[2 * row + 1]
        if any(each.failure for each in reading):
            raise RuntimeError(f"{name} cannot read the file: {reading[0].failure}")
        ms = Spread.of([each.ms for each in reading])
        imported_mb = statistics.median(each.peak_mb for each in importing)
        mb = statistics.median(each.peak_mb for each in reading) - imported_mb
        cells = (ms.text(".1f"), f"{mb:.1f}", f"{imported_mb:.1f}")
        benchmark.row(name, *cells, reader=name, ms=[each.ms for each in reading], mb=mb)
        if row == 0:
            benchmark.check("reading, ms", ms.median, READ_MS)
            benchmark.check("reading, MB", mb, READ_MB)


def read_broken(benchmark: Benchmark, folder: Path) -> None:
    """Every broken file has to be called broken, at once and for little."""
    benchmark.head("what is broken:42", "ms:10", "MB:10")
    idle_mb = {imports: cost(imports, None).peak_mb for imports in (OURS, SAFETENSORS)}
    for what, ending, content, size in broken_files():
        path = folder / f"broken.{ending}"
        path.write_bytes(content)
        os.truncate(path, size)
        imports = OURS if ending == "gguf" else SAFETENSORS
        tries = [cost(imports, path) for _ in range(1 if benchmark.quick else 5)]
        if {each.failure for each in tries} != {"BrokenModelFile"}:
            raise RuntimeError(f"{what}: {tries[0].failure or 'read as if it were whole'}")
        ms = statistics.median(each.ms for each in tries)
        mb = max(0.0, statistics.median(each.peak_mb for each in tries) - idle_mb[imports])
        benchmark.row(f"{what} ({ending})", f"{ms:.1f}", f"{mb:.1f}", broken=what, ms=ms, mb=mb)
        benchmark.check(f"{what}, ms", ms, BROKEN_MS)
        benchmark.check(f"{what}, MB", mb, BROKEN_MB)


if __name__ == "__main__":
    sys.exit(main())
