"""Pack a model's weights with GPTQ, so that there is a folder to load and to time.

    python suites/pack_gptq.py synthetic:llama-15m FOLDER [--bits 4] [--group-size 32]

Calibrated with random tokens: the weights are as good as those of any synthetic model, their
sizes and kernels are the real ones. Needs 'pytest-llmperf[gptq]'; runs on the CPU.
"""

from __future__ import annotations

import argparse
import os
import random

from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.models import ModelFiles, ModelSpec, resolve

_ROWS, _ROW_TOKENS = 8, 128


def main() -> None:
    """Read the command line and pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("folder")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=32, help="numbers that share a scale")
    given = parser.parse_args()
    spec = ModelSpec(
        given.source, "BF16" if given.source.startswith(("synthetic:", "trained:")) else None
    )
    pack(resolve(spec, "hf"), given.folder, given.bits, given.group_size)


def pack(files: ModelFiles, folder: str, bits: int, group_size: int) -> None:
    """Write the packed model to ``folder``."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(usable_cores()))  # else it waits for more
    from gptqmodel import GPTQModel, QuantizeConfig

    config = QuantizeConfig(bits=bits, group_size=group_size, desc_act=False)
    model = GPTQModel.load(files.path, config, device="cpu")
    source = random.Random(0)  # noqa: S311 - tokens, no secrets
    tokens = range(files.vocab_size or 256)
    rows = [source.choices(tokens, k=_ROW_TOKENS) for _ in range(_ROWS)]
    model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows])
    model.save(folder)


if __name__ == "__main__":
    main()
