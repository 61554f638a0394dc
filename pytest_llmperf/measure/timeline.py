"""What do the instants of one request say? Pure arithmetic from docs/metrics.md."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from pytest_llmperf.worker.messages import Generated


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One timed request. Times in seconds, speeds in tokens per second."""

    prompt_tokens: int
    new_tokens: int
    """Tokens generated, n_g."""
    ttft_s: float
    """t_1 − t_0."""
    e2e_s: float
    """t_n − t_0."""
    gaps_s: list[float]
    """t_k+1 − t_k, n_g − 1 of them."""

    @property
    def prefill_tps(self) -> float:
        """n_p / (t_1 − t_0)."""
        return self.prompt_tokens / self.ttft_s

    @property
    def decode_s(self) -> float:
        """t_n − t_1."""
        return self.e2e_s - self.ttft_s

    @property
    def decode_tps(self) -> float | None:
        """(n_g − 1) / (t_n − t_1); None for a single token, which has no gap."""
        return len(self.gaps_s) / self.decode_s if self.gaps_s else None

    @property
    def tpot_s(self) -> float | None:
        """(t_n − t_1) / (n_g − 1); None for a single token."""
        return self.decode_s / len(self.gaps_s) if self.gaps_s else None


class InvalidSample(Exception):
    """A request that breaks a rule of docs/metrics.md; its numbers mean nothing."""


def read_sample(answer: Generated, prompt_tokens: int, new_tokens: int) -> Sample:
    """Turn a worker's instants (ns) into a sample.

    Raises InvalidSample when the number of tokens is not the number asked for, or when the
    instants do not grow.
    """
    if answer.count != new_tokens:
        raise InvalidSample(f"{answer.count} tokens generated, {new_tokens} asked for")
    instants = [answer.started_ns, *answer.instants_ns]
    if any(later < earlier for earlier, later in pairwise(instants)):
        raise InvalidSample("token times run backwards")
    gaps = [(later - earlier) / 1e9 for earlier, later in pairwise(answer.instants_ns)]
    ttft_s = (instants[1] - instants[0]) / 1e9
    if ttft_s <= 0 or (gaps and sum(gaps) <= 0):
        raise InvalidSample("tokens took no time at all")
    return Sample(
        prompt_tokens=prompt_tokens,
        new_tokens=answer.count,
        ttft_s=ttft_s,
        e2e_s=(instants[-1] - instants[0]) / 1e9,
        gaps_s=gaps,
    )
