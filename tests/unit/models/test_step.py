"""The arithmetic of a step, against sums made by hand or by counting one by one."""

from __future__ import annotations

import pytest

from pytest_llmperf.models.step import (
    Attention,
    Traffic,
    distinct_experts,
    prefill_flops,
    step_bytes,
    weight_bytes,
)


def traffic(
    *attention: Attention, dense: int = 1000, layers: int | None = 400, head: int = 100
) -> Traffic:
    return Traffic(
        dense_bytes=dense,
        attention=attention,
        layer_parameters=layers,
        head_parameters=head,
        bits_per_weight=16.0,
        tied=False,
    )


MIXTURE = Traffic(
    dense_bytes=1000,
    expert_bytes=8000,
    experts=8,
    experts_used=2,
    layer_parameters=400,
    expert_parameters=4000,
    head_parameters=100,
    bits_per_weight=16.0,
    tied=False,
)


def test_a_step_reads_the_weights_once_and_every_sequence_its_cache() -> None:
    model = traffic(Attention(layers=3, kv_values=20, query_values=40))
    assert step_bytes(model) == 1000
    assert step_bytes(model, depth_tokens=10, kv_element_bytes=2) == 1000 + 3 * 20 * 10 * 2
    assert step_bytes(model, batch=4, depth_tokens=10) == 1000 + 4 * 3 * 20 * 10 * 2
    in_float32 = step_bytes(model, depth_tokens=10, kv_element_bytes=4, weight_scale=2)
    assert in_float32 == 2000 + 3 * 20 * 10 * 4


def test_a_window_ends_what_a_layer_reads() -> None:
    model = traffic(
        Attention(layers=1, kv_values=20, query_values=40),
        Attention(layers=5, kv_values=20, query_values=40, window=8),
    )
    assert step_bytes(model, depth_tokens=6) == 1000 + 6 * 20 * 6 * 2
    assert step_bytes(model, depth_tokens=100) == 1000 + (20 * 100 + 5 * 20 * 8) * 2


def test_one_token_reads_its_own_experts_and_a_large_batch_all() -> None:
    assert weight_bytes(MIXTURE) == pytest.approx(1000 + 8000 * 2 / 8)
    # Of 8 experts each of two tokens leaves 6 out; 8 · (3/4)² = 4.5 stay unread.
    assert distinct_experts(MIXTURE, 2) == pytest.approx(8 - 4.5)
    assert weight_bytes(MIXTURE, 2) == pytest.approx(1000 + 8000 * 3.5 / 8)
    assert weight_bytes(MIXTURE, 1000) == pytest.approx(9000)


def test_a_prompt_multiplies_every_token_with_the_layers_and_one_with_the_head() -> None:
    assert prefill_flops(traffic(), prompt_tokens=7) == 2 * (400 * 7 + 100)
    assert prefill_flops(traffic(), batch=3, prompt_tokens=7) == 3 * 2 * (400 * 7 + 100)
    assert prefill_flops(MIXTURE, prompt_tokens=7) == 2 * ((400 + 1000) * 7 + 100)


@pytest.mark.parametrize("depth", [0, 3, 50])
@pytest.mark.parametrize("window", [None, 5, 1])
def test_attention_counts_every_pair_that_the_mask_leaves(depth: int, window: int | None) -> None:
    layer = Attention(layers=2, kv_values=20, query_values=40, window=window)
    pairs = sum(
        1
        for query in range(depth, depth + 7)
        for key in range(query + 1)
        if window is None or query - key < window
    )
    found = prefill_flops(traffic(layer, layers=0, head=0), prompt_tokens=7, depth=depth)
    assert found == 2 * 2 * 40 * pairs


def test_packed_weights_do_not_tell_their_multiplications() -> None:
    assert prefill_flops(traffic(layers=None), prompt_tokens=7) is None
