"""Answers of a worker, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmperf.backends import EngineTimings
from pytest_llmperf.worker.messages import Generated, PhaseMemory
from pytest_llmperf.worker.usage import Usage


def generated(
    *,
    started_ns: int = 0,
    instants_ns: Sequence[int],
    chunk_tokens: Sequence[int] = (),
    count: int | None = None,
    usage: Sequence[Usage] = (),
    memory: PhaseMemory | None = None,
    timings: EngineTimings | None = None,
) -> Generated:
    """An answer with these instants; everything else as of an engine that tells nothing more."""
    tokens = sum(chunk_tokens) if chunk_tokens else len(instants_ns)
    return Generated(
        started_ns=started_ns,
        instants_ns=list(instants_ns),
        chunk_tokens=list(chunk_tokens),
        token_ids=[1] * tokens,
        count=tokens if count is None else count,
        whole_ns=max(instants_ns, default=started_ns) - started_ns,
        usage=list(usage),
        memory=memory,
        devices=[],
        timings=timings,
    )
