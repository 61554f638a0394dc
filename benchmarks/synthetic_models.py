"""How long, and in how much memory, are synthetic models built?

    python benchmarks/synthetic_models.py [--quick] [--json FILE]

Builds each model into an empty cache of its own. ``--quick`` leaves out tinyllama-1.1b, which needs
5 GB of disk for a minute. Targets: llama-160m in 10 s; tinyllama-1.1b to Q4_K_M in 90 s and 6 GiB.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from paired import option_parser

from pytest_llmperf.models import ModelSpec, resolve

QUICK = (
    ("llama-160m", "gguf", "Q4_K_M", 10.0),
    ("llama-160m", "gguf", "Q8_0", 10.0),
    ("llama-160m", "hf", "BF16", 10.0),
)
LONG = (("tinyllama-1.1b", "gguf", "Q4_K_M", 90.0),)


def main() -> int:
    """Print the table."""
    options = option_parser(__doc__).parse_args()
    rows = []
    print(f"{'model':<30}{'seconds':>9}{'target':>8}{'peak GiB':>10}{'bits/weight':>13}")
    for name, form, quantization, target_s in QUICK + (() if options.quick else LONG):
        with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as cache:
            began = time.perf_counter()
            files = resolve(ModelSpec(f"synthetic:{name}", quantization), form, cache=Path(cache))
            seconds = time.perf_counter() - began
        # The largest of all children so far; builds are ordered by size.
        peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        label = f"{name} {form} {quantization}"
        bits = files.bits_per_weight
        print(f"{label:<30}{seconds:>9.1f}{target_s:>8.0f}{peak_gib:>10.2f}{bits:>13.2f}")
        rows.append({"model": label, "seconds": seconds, "peak_gib": peak_gib, "bits": bits})
    if options.json is not None:
        options.json.write_text(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
