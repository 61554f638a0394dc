"""How do a model's tensors, each known by its use, become what a step reads?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pytest_llmperf.models.step import Attention, Traffic

_LAYER = re.compile(r"(?:^|\.)(?:blk|layers|h)\.(\d+)\.")


class Part(msgspec.Struct, frozen=True):
    """One tensor, of either format, by what a step does with it."""

    bytes: int
    elements: int
    matrix: bool
    experts: bool = False
    head: bool = False


def assemble(  # noqa: PLR0913 - the facts that both formats state, each named
    parts: Sequence[Part],
    *,
    experts: int,
    experts_used: int,
    attention: Sequence[Attention],
    tied: bool,
    notes: Sequence[str],
    packed: bool = False,
) -> Traffic | str:
    """Add up the parts that a step reads; a text when the use of routed experts is not told."""
    routed = [part for part in parts if part.experts]
    dense = [part for part in parts if not part.experts]
    if routed and not 0 < experts_used <= experts:
        return (
            "what a step reads is not known: the model has routed experts, and its header does "
            f"not say how many a token uses ({experts_used} of {experts})"
        )
    if experts > 1 and not routed:
        return (
            f"what a step reads is not known: the header names {experts} experts, and none of the "
            "tensors has a name by which experts are known here"
        )
    read = sum(part.bytes for part in parts)
    notes = [*notes, *(["weights are packed: their multiplications are not told"] * packed)]
    return Traffic(
        dense_bytes=sum(part.bytes for part in dense),
        expert_bytes=sum(part.bytes for part in routed),
        experts=experts if routed else 0,
        experts_used=experts_used if routed else 0,
        attention=tuple(attention),
        layer_parameters=None if packed else _multiplied(part for part in dense if not part.head),
        expert_parameters=_multiplied(routed),
        head_parameters=_multiplied(part for part in dense if part.head),
        bits_per_weight=read * 8 / max(1, sum(part.elements for part in parts)),
        tied=tied,
        notes=tuple(notes),
    )


def _multiplied(parts: Iterable[Part]) -> int:
    return sum(part.elements for part in parts if part.matrix)


def merged(layers: Iterable[Attention]) -> list[Attention]:
    """Layers of the same sizes as one entry, in the order of their first."""
    counts: dict[Attention, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return [msgspec.structs.replace(layer, layers=count) for layer, count in counts.items()]


def layer_of(name: str) -> int:
    """Number of the layer that a tensor belongs to; −1: of none."""
    match = _LAYER.search(name)
    return int(match[1]) if match else -1


def whole(value: Any) -> int:
    """A count that a header states; 0 when it does not."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
