"""Does a prediction follow from bytes, operations and measured shares?"""

from __future__ import annotations

import pytest

from pytest_llmperf.fit.speed import PERFECT, Efficiency, Part, expected_speed
from tests.unit.fit.models import MIB, model

TRAFFIC = model().traffic
BYTES = (4 * 100 + 60) * MIB
HALF = Efficiency(decode=0.5, prefill=0.25, cache=0.5)


def part(**given: object) -> Part:
    return Part(**{"share": 1.0, "efficiency": HALF, "bandwidth": 10e9, "flops": 1e12, **given})  # type: ignore[arg-type] # a mixed bag


def speed(*parts: Part, depth: int = 0) -> tuple[float | None, float | None]:
    assert TRAFFIC is not None
    found = expected_speed(TRAFFIC, parts, depth_tokens=depth, prompt_tokens=128)
    return found.decode_tps, found.prefill_tps


def test_a_step_reads_all_weights_at_the_share_that_was_measured() -> None:
    decode, _ = speed(part())
    assert decode == pytest.approx(10e9 * 0.5 / BYTES)


def test_the_cache_is_read_as_well() -> None:
    decode, _ = speed(part(), depth=4096)
    assert decode == pytest.approx(10e9 * 0.5 / (BYTES + 4096 * 4 * 2048))


def test_each_layer_takes_its_time_beside_its_bytes() -> None:
    slow = Efficiency(decode=0.5, prefill=0.25, layer_us=100.0)
    decode, _ = speed(part(efficiency=slow))
    assert decode == pytest.approx(1 / (BYTES / 5e9 + 4 * 100e-6))


def test_multiplications_take_their_time_where_they_were_measured_to() -> None:
    slow = Efficiency(decode=0.5, prefill=0.25, compute=0.1)
    decode, _ = speed(part(efficiency=slow))
    operations = 2 * BYTES + 2 * 4 * 1024  # a parameter a byte, and a token's own attention
    assert decode == pytest.approx(1 / (BYTES / 5e9 + operations / 0.1e12))
    assert speed(part(efficiency=slow, flops=None)) == (None, None)


def test_a_prompt_is_operations_by_the_share_of_the_rate() -> None:
    _, prefill = speed(part())
    layers, head = 4 * 100 * MIB, 60 * MIB
    attention = 2 * 4 * 1024 * 128 * 129 / 2
    assert prefill == pytest.approx(128 * 0.25e12 / (2 * (layers * 128 + head) + attention))


def test_devices_work_one_after_the_other() -> None:
    fast, slow = part(share=0.75, bandwidth=40e9), part(share=0.25)
    decode, _ = speed(fast, slow)
    assert decode == pytest.approx(1 / (0.75 * BYTES / 20e9 + 0.25 * BYTES / 5e9))


def test_what_one_device_leaves_open_is_open() -> None:
    assert speed(part(share=0.5), part(share=0.5, bandwidth=None, flops=None)) == (None, None)
    assert speed() == (None, None)


def test_what_was_never_measured_is_a_ceiling() -> None:
    assert TRAFFIC is not None
    found = expected_speed(TRAFFIC, [part(efficiency=PERFECT)], depth_tokens=0, prompt_tokens=1)
    assert found.is_ceiling
    assert found.decode_tps == pytest.approx(10e9 / BYTES)
