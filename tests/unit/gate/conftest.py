"""A folder of baselines for tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.gate.baseline_file import (
    BaselineStore,
)
from tests.unit.gate.baselines import MODULE, THIRD
from tests.unit.gate.test_baseline import KEY, OTHER, epoch, session


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "baselines", "linux-x86_64-amd-26-2-2c", lock_timeout_s=0.2)


@pytest.fixture
def path(store: BaselineStore) -> Path:
    """The file of three pairs with two sessions each."""
    store.update(
        MODULE,
        [
            line
            for key in (THIRD, KEY, OTHER)
            for line in (epoch(key=key), session(0, key=key), session(1, key=key))
        ],
    )
    return store.path(MODULE)
