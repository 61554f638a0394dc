"""Which keywords does ``@pytest.mark.perf`` take? For editors and type checkers.

Made from the metric table; tests/unit/front/test_limits.py prints what this file must hold when the
table has grown.
"""

from __future__ import annotations

from typing import TypedDict


class PerfLimits(TypedDict, total=False):
    """Limits in the unit that the keyword ends with; ``gb`` is GiB (2**30 bytes)."""

    min_decode_tps: float
    min_tps: float
    min_prefill_tps: float
    max_ttft_ms: float
    max_ttft_p50_ms: float
    max_ttft_p90_ms: float
    max_ttft_p95_ms: float
    max_ttft_p99_ms: float
    max_itl_ms: float
    max_itl_p50_ms: float
    max_itl_p90_ms: float
    max_itl_p95_ms: float
    max_itl_p99_ms: float
    max_icl_ms: float
    max_icl_p50_ms: float
    max_icl_p90_ms: float
    max_icl_p95_ms: float
    max_icl_p99_ms: float
    min_chunk_tokens: float
    min_queue_tps: float
    min_step_tokens: float
    max_tpot_ms: float
    max_tpot_p50_ms: float
    max_tpot_p90_ms: float
    max_tpot_p95_ms: float
    max_tpot_p99_ms: float
    max_e2e_ms: float
    max_e2e_p50_ms: float
    max_e2e_p90_ms: float
    max_e2e_p95_ms: float
    max_e2e_p99_ms: float
    max_load_s: float
    max_ram_gb: float
    max_ram_anon_gb: float
    max_vram_gb: float
    max_vram_allocated_gb: float
    max_vram_reserved_gb: float
    min_mbu: float
    min_mfu: float
    max_kl_divergence: float
    max_perplexity: float
    min_top1_agreement: float
    max_regression: str | float
    samples: int
    timeout_s: float
