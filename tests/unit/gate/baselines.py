"""A store with one file in it, and what a change of its bytes does."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import pytest

from pytest_llmperf.gate.baseline import PairKey
from pytest_llmperf.gate.baseline_file import (
    BaselineStore,
    BrokenBaseline,
)
from tests.unit.gate.test_baseline import session

MODULE = "tests/perf/test_chat.py"
THIRD = PairKey("test_long", "1", "ttft", "llama-cpp llama-160m Q4_K_M 4096+16")
HEADER = b'{"schema":"pytest-llmperf baselines","version":1}'


def difference(before: bytes, after: bytes) -> list[str]:
    lines = difflib.ndiff(before.decode().splitlines(), after.decode().splitlines())
    return [line for line in lines if line[0] in "+-"]


def broken(store: BaselineStore, change: Callable[[list[bytes]], list[bytes]]) -> BrokenBaseline:
    """Break the file, and see both that it is refused and that no update touches it."""
    path = store.path(MODULE)
    path.write_bytes(b"\n".join(change(path.read_bytes().split(b"\n"))))
    data = path.read_bytes()
    with pytest.raises(BrokenBaseline):
        store.update(MODULE, [session(2)])
    assert path.read_bytes() == data
    with pytest.raises(BrokenBaseline) as seen:
        store.read(MODULE)
    assert seen.value.path == path
    place = f"{path}:{seen.value.line}: " if seen.value.line else f"{path}: "
    assert str(seen.value).startswith(place)
    return seen.value
