"""What of a model fits into a room? What `pytest-llmperf plan` prints, for who writes Python."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmperf.backends.llama_cpp import CacheType
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.plan import Planned, plan_rows
from pytest_llmperf.fit.room import Room
from pytest_llmperf.fit.subject import find_engine, find_subject

PROMPT_TOKENS = 512


def plan(
    model: str,
    room: Room,
    *,
    backend: str = "llama-cpp",
    quantizations: Sequence[str] = (),
    contexts: Sequence[int] = (2048,),
    sequences: int = 1,
) -> list[Planned]:
    """A row for each quantization and context in tokens; without quantizations, the usual ones.

    ``model``: a name of the catalogue, ``synthetic:NAME``, a GGUF file, a ``config.json``.
    ``room``: ``room_of("jetson-orin-nano")``, ``stated_room(vram_gb=…)``, ``room_here(hardware)``.
    Nothing is loaded. Raises ModelError, UnsupportedModel.
    """
    engine = find_engine(backend)
    sizes = find_subject(model).sizes(engine, tuple(quantizations))
    return list(plan_rows(engine, sizes, [load_of(each, sequences) for each in contexts], room))


def load_of(
    context_tokens: int,
    sequences: int = 1,
    *,
    cache_type: CacheType = "f16",
    flash_attention: bool = True,
) -> Load:
    """A context as a plan takes it."""
    return Load(
        context_tokens=context_tokens,
        prompt_tokens=min(PROMPT_TOKENS, context_tokens),
        sequences=sequences,
        cache_type=cache_type,
        flash_attention=flash_attention,
    )
