"""Baselines made up for the tests of commands."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any

import msgspec

from pytest_llmperf.gate.baseline import Baseline, Line, PairKey, SessionLine
from pytest_llmperf.gate.baseline_file import BaselineStore
from tests.unit.gate.test_baseline import NOON

HERE = "linux-x86_64-here"
MODULE = "tests/perf/test_chat.py"
CONFIG = "llama-cpp synthetic:llama-160m Q4_K_M 512+128"
CHAT = PairKey("test_chat[Q4_K_M]", "1", "decode_tps", CONFIG)
PREFILL = PairKey("test_chat[Q4_K_M]", "1", "prefill_tps", CONFIG)
RAM = PairKey("test_chat[Q4_K_M]", "1", "ram", CONFIG)
LONG = PairKey("test_long", "1", "decode_tps", CONFIG)
WIGGLE = (0.0, 0.01, -0.01, 0.005, -0.005)

Ask = Callable[..., tuple[int, str, str]]


def session(key: PairKey, number: int, value: float, **changes: Any) -> SessionLine:
    sign = -1 if key.metric == "ram" else 1
    line = SessionLine(
        key=key,
        epoch=0,
        session=f"run-{number}",
        date=NOON + datetime.timedelta(days=number),
        commit=f"c{number}",
        value=value,
        log_value=sign * math.log(value),
        spread=0.004,
        n=10,
    )
    return msgspec.structs.replace(line, **changes)


def sessions(key: PairKey, count: int, centre: float, **changes: Any) -> list[Line]:
    """In the first epoch, around a centre that is hit every fifth time."""
    values = (centre * math.exp(WIGGLE[number % len(WIGGLE)]) for number in range(count))
    return [session(key, number, value, **changes) for number, value in enumerate(values)]


def unfolded(text: str) -> str:
    """What was said, without the lines that it was folded into."""
    return " ".join(text.split())


def of(store: BaselineStore, key: PairKey) -> Baseline:
    return store.read(MODULE).of(key)
