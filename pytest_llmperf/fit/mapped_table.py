"""How much of a mapped file's weights is in memory, where only some rows of its table are read?"""

from __future__ import annotations

import math

from pytest_llmperf.fit.footprint import Interval
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize

_LEAST_PROMPTS = 2
_FAULT_BYTES = 64 << 10
"""What the kernel maps around a row that is read: ``fault_around_bytes`` of Linux."""


def resident_weights(size: ModelSize, load: Load) -> Interval:
    """All weights, less the rows of the table that no prompt looked up, and what lies around them.

    Prompts are of random tokens, so that each look-up hits a place of its own: the share that is
    never hit is e^(−look-ups × bytes around each ÷ bytes of the table). A tied table is read whole.
    """
    weights = Interval.around(size.weights.total, size.weights.doubt)
    table = size.weights.tables
    if size.weights.tied or not table:
        return weights
    rows = load.sequences * load.prompt_tokens

    def untouched(prompts: int) -> int:
        return round(table * math.exp(-prompts * rows * _FAULT_BYTES / table))

    least = untouched(load.prompts or _LEAST_PROMPTS)
    most = untouched(load.prompts) if load.prompts else 0
    return Interval(weights.low - least, weights.high - most)
