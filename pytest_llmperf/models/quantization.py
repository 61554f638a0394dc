"""Which quantizations exist, what are they called, and which can be made from random weights?

Names and numbers are llama.cpp's file types (``enum llama_ftype``, ``tools/quantize``). A type
that llama.cpp refuses to make without an importance matrix is refused here by name, because
random weights have no activations to weigh them by (``tensor_requires_imatrix`` in
``src/llama-quant.cpp``).
"""

from __future__ import annotations

import difflib

import msgspec

from pytest_llmperf.models.errors import UnknownQuantization
from pytest_llmperf.models.formats import Format

PLAIN = ("F32", "F16", "BF16")
"""Types that are written directly; all others come out of llama.cpp's quantizer."""

_IMATRIX = "llama.cpp makes it only with an importance matrix, which random weights do not have"
_NOT_OFFERED = "llama.cpp reads such files but its quantizer does not make them"


class Quantization(msgspec.Struct, frozen=True):
    """One llama.cpp file type."""

    name: str
    ftype: int | None
    """Its number in ``enum llama_ftype``, which is ``general.file_type`` in a GGUF file; None: it
    is none of llama.cpp's."""
    nominal_bits: float
    """Bits per weight of a 7-billion-parameter model: for estimates before the file exists."""
    obstacle: str = ""
    """Why it cannot be made here; empty when it can."""
    formats: tuple[Format, ...] = ("gguf",)
    """Of synthetic models that it can be made in."""

    @property
    def is_plain(self) -> bool:
        """Whether the weights are stored as ordinary floating-point numbers."""
        return self.name in PLAIN


_TABLE = (
    Quantization("F32", 0, 32.0, formats=("gguf", "hf", "onnx")),
    Quantization("F16", 1, 16.0, formats=("gguf", "hf")),
    Quantization("BF16", 32, 16.0, formats=("gguf", "hf")),
    Quantization("Q8_0", 7, 8.5),
    Quantization("Q6_K", 18, 6.6),
    Quantization("Q5_K_M", 17, 5.7),
    Quantization("Q5_K_S", 16, 5.6),
    Quantization("Q5_1", 9, 6.0),
    Quantization("Q5_0", 8, 5.6),
    Quantization("Q4_K_M", 15, 4.9),
    Quantization("Q4_K_S", 14, 4.6),
    Quantization("Q4_1", 3, 5.1),
    Quantization("Q4_0", 2, 4.6),
    Quantization("IQ4_NL", 25, 4.6),
    Quantization("IQ4_XS", 30, 4.4),
    Quantization("MXFP4_MOE", 38, 8.5),
    Quantization("Q3_K_L", 13, 4.3),
    Quantization("Q3_K_M", 12, 3.9),
    Quantization("Q3_K_S", 11, 3.5),
    Quantization("IQ3_M", 27, 3.8),
    Quantization("IQ3_S", 26, 3.5),
    Quantization("IQ3_XS", 22, 3.4, _IMATRIX),
    Quantization("IQ3_XXS", 23, 3.2, _IMATRIX),
    Quantization("Q2_K", 10, 3.2),
    Quantization("Q2_K_S", 21, 2.9, _IMATRIX),
    Quantization("IQ2_M", 29, 2.8, _IMATRIX),
    Quantization("IQ2_S", 28, 2.6, _IMATRIX),
    Quantization("IQ2_XS", 20, 2.4, _IMATRIX),
    Quantization("IQ2_XXS", 19, 2.2, _IMATRIX),
    Quantization("IQ1_M", 31, 1.9, _IMATRIX),
    Quantization("IQ1_S", 24, 1.7, _IMATRIX),
    Quantization("TQ2_0", 37, 2.4),
    Quantization("TQ1_0", 36, 2.1),
    Quantization("Q2_0", 41, 2.6),
    Quantization("Q1_0", 40, 1.6),
    Quantization("NVFP4", 39, 4.6, _NOT_OFFERED),
    Quantization("INT4", None, 5.0, formats=("onnx",)),  # blocks of 32 with a float32 each
)
_BY_NAME = {one.name: one for one in _TABLE}
_BY_FTYPE = {one.ftype: one for one in _TABLE if one.ftype is not None}
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}
_ALIASES |= {"FP32": "F32", "FP16": "F16"}


def find_quantization(name: str) -> Quantization:
    """Return the quantization called ``name``, in any case and with - for _.

    Raises UnknownQuantization, listing the known ones and the nearest.
    """
    wanted = name.strip().upper().replace("-", "_")
    wanted = _ALIASES.get(wanted, wanted)
    if wanted in _BY_NAME:
        return _BY_NAME[wanted]
    near = difflib.get_close_matches(wanted, [*_BY_NAME, *_ALIASES], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UnknownQuantization(
        f"no quantization is called {name!r}.{hint} Known: {', '.join(_BY_NAME)}."
    )


def require_makeable(quantization: Quantization) -> None:
    """Raise UnknownQuantization with the reason when random weights cannot be stored in it."""
    if quantization.obstacle:
        makeable = ", ".join(one.name for one in _TABLE if not one.obstacle)
        raise UnknownQuantization(
            f"a synthetic model in {quantization.name} cannot be made: {quantization.obstacle}. "
            f"Use a real file, or one of: {makeable}."
        )


def makeable_in(file_format: Format) -> tuple[str, ...]:
    """Names of the quantizations that a synthetic model of this format can be in."""
    return tuple(one.name for one in _TABLE if file_format in one.formats and not one.obstacle)


def name_of_ftype(number: int) -> str | None:
    """Return the name of llama.cpp's file type ``number``; None when it is not known here."""
    found = _BY_FTYPE.get(number)
    return found.name if found else None
