"""In which type will llama.cpp's quantizer store each matrix of a model?

Restated from ``llama_tensor_get_type`` and ``tensor_type_fallback`` in llama.cpp's
``src/llama-quant.cpp``, for models that are quantized without an importance matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pytest_llmperf.models.errors import UnknownQuantization
from pytest_llmperf.models.quantization import PLAIN, find_quantization
from pytest_llmperf.models.tensor_types import GGML_TYPES, BlockType

OUTPUT, TABLE = "output", "token_embd"
"""The output matrix, and the table of tokens; they may be one tensor."""

_BY_NAME = {each.name: each for each in GGML_TYPES.values()}
_SMALL_BLOCKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
_SMALL_BLOCKS |= dict.fromkeys(("Q2_K", "Q3_K"), "Q4_0")
"""What stands in where a row is no multiple of 256."""
_SHARING = 4
"""Queries per key from which values are small enough to be kept better."""
_EIGHT_EXPERTS = 8
_LARGE_LAYERS, _LARGE_SHARING = 80, 8  # how llama.cpp knows the 70B models


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where in its model a matrix stands."""

    part: str
    """By llama.cpp's names, without layer and suffix: ``attn_v``, ``ffn_down``."""
    columns: int
    layer: int = 0
    layers: int = 1
    sharing: int = 1
    """Query heads per key head."""
    experts: int = 0

    @property
    def is_favoured(self) -> bool:
        """Whether its layer is among those that mixed quantizations keep better."""
        eighth = self.layers // 8
        is_outer = self.layer < eighth or self.layer >= 7 * self.layers // 8
        return is_outer or (self.layer - eighth) % 3 == 2

    def is_among_first(self, parts: int) -> bool:
        """Whether its layer is in the first of so many equal parts."""
        return self.layer < self.layers // parts


def plannable() -> tuple[str, ...]:
    """The quantizations whose mix is known here, the largest first."""
    return (*PLAIN, *_MIXES)


def stored_type(quantization: str, place: Place) -> BlockType:
    """The type of a matrix in a file of this quantization; vectors are kept in F32.

    Raises UnknownQuantization for one whose mix is not known here.
    """
    name = find_quantization(quantization).name
    if name in PLAIN:
        return _BY_NAME[name]
    if name not in _MIXES:
        raise UnknownQuantization(
            f"which types a file of {name} mixes is not known here. Known: "
            f"{', '.join(plannable())}."
        )
    base, rules = _MIXES[name]
    rule = rules.get(place.part)
    chosen = (rule(place) if rule else None) or base
    if place.part == OUTPUT:
        fits = place.columns % _BY_NAME[base].elements == 0
        chosen = "Q6_K" if fits and base != "Q8_0" else "Q8_0"
    elif place.part == "attn_v":
        chosen = _values(chosen, place)
    elif place.experts == _EIGHT_EXPERTS:
        chosen = _with_eight_experts(chosen, base, name, place)
    return _fitting(chosen, place.columns)


def _fitting(name: str, columns: int) -> BlockType:
    for wanted in (name, _SMALL_BLOCKS.get(name, name), "F16"):
        if columns % _BY_NAME[wanted].elements == 0:
            return _BY_NAME[wanted]
    raise AssertionError("F16 has blocks of one")


def _values(chosen: str, place: Place) -> str:
    if place.experts == _EIGHT_EXPERTS:
        return "Q8_0"
    is_large = place.layers == _LARGE_LAYERS and place.sharing == _LARGE_SHARING
    return "Q5_K" if is_large and chosen in ("Q3_K", "Q4_K") else chosen


def _with_eight_experts(chosen: str, base: str, quantization: str, place: Place) -> str:
    if place.part == "attn_k":
        return "Q8_0"
    keeps_output = quantization in ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M")
    keeps_output |= quantization in ("IQ4_NL", "IQ4_XS")
    if place.part == "attn_output":
        return "Q5_K" if keeps_output else base
    return chosen


_Rule = Callable[[Place], str | None]
"""The type of the matrix at a place; None: that of what no rule is for."""


def _always(name: str) -> _Rule:
    return lambda _: name


def _where(holds: Callable[[Place], bool], name: str, otherwise: str | None = None) -> _Rule:
    return lambda place: name if holds(place) else otherwise


def _favoured(place: Place) -> bool:
    return place.is_favoured


def _shared(place: Place) -> bool:
    return place.sharing >= _SHARING


def _first_eighth(place: Place) -> bool:
    return place.is_among_first(8)


_IQ4 = {"attn_v": _where(_shared, "Q5_K"), "ffn_down": _where(_first_eighth, "Q5_K")}
_MIXES: dict[str, tuple[str, dict[str, _Rule]]] = {
    "Q8_0": ("Q8_0", {}),
    "MXFP4_MOE": ("Q8_0", {}),  # but for the experts, which are no single matrices
    "Q6_K": ("Q6_K", {}),
    "Q5_K_M": (
        "Q5_K",
        {
            "attn_v": _where(_favoured, "Q6_K"),
            "ffn_down": _where(_favoured, "Q6_K"),
            "attn_qkv": _always("Q6_K"),
        },
    ),
    "Q5_K_S": ("Q5_K", {}),
    "Q5_1": ("Q5_1", {}),
    "Q5_0": ("Q5_0", {}),
    "Q4_K_M": (
        "Q4_K",
        {
            "attn_v": _where(_favoured, "Q6_K"),
            "ffn_down": _where(_favoured, "Q6_K"),
            "attn_qkv": _always("Q5_K"),
        },
    ),
    "Q4_K_S": (
        "Q4_K",
        {
            "attn_v": _where(lambda place: place.layer < 4, "Q5_K"),
            "ffn_down": _where(_first_eighth, "Q5_K"),
        },
    ),
    "Q4_1": ("Q4_1", {}),
    "Q4_0": ("Q4_0", {}),
    "IQ4_NL": ("IQ4_NL", _IQ4),
    "IQ4_XS": ("IQ4_XS", _IQ4),
    "Q3_K_L": (
        "Q3_K",
        dict.fromkeys(("attn_v", "ffn_down", "attn_output"), _always("Q5_K"))
        | {"attn_qkv": _always("Q4_K")},
    ),
    "Q3_K_M": (
        "Q3_K",
        {
            "attn_v": _where(lambda place: place.layer < 2, "Q5_K", "Q4_K"),
            "ffn_down": _where(lambda place: place.is_among_first(16), "Q5_K", "Q4_K"),
            "attn_output": _always("Q4_K"),
            "attn_qkv": _always("Q4_K"),
        },
    ),
    "Q3_K_S": ("Q3_K", {}),
    "Q2_K": (
        "Q2_K",
        {
            "attn_v": _where(_shared, "Q4_K", "Q3_K"),
            "ffn_down": _always("Q3_K"),
            "attn_output": _always("Q3_K"),
        },
    ),
}
"""By quantization: the type of what no rule is for, and the rules by part."""
