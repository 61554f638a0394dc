"""With which settings does llama.cpp make a context, and which of them contradict each other?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused
from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.models.layers import cache_type
from pytest_llmperf.models.tensor_types import GGML_TYPES

if TYPE_CHECKING:
    from pytest_llmperf.backends.llama_cpp import LlamaCppOptions

_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_ROPE_SCALING = {"none": 0, "linear": 1, "yarn": 2}  # enum llama_rope_scaling_type in llama.h
_NUMBERS = {kind.name.lower(): number for number, kind in GGML_TYPES.items()}
_YARN = (
    "yarn_ext_factor",
    "yarn_attn_factor",
    "yarn_beta_fast",
    "yarn_beta_slow",
    "yarn_orig_ctx",
)


def make_context(lib: Any, model: Any, options: LlamaCppOptions, draft_tokens: int = 0) -> Any:
    """A llama_context that can check so many drafted tokens at once. Raises EngineRefused."""
    _check_sizes(options, draft_tokens)
    _check_rope(float(lib.llama_model_rope_freq_scale_train(model)), options)
    params = lib.llama_context_default_params()
    params.n_ctx = options.n_ctx
    params.n_seq_max = options.n_seq_max
    params.n_batch = min(options.n_batch, options.n_ctx)
    params.n_ubatch = min(options.n_ubatch, options.n_ctx)
    params.n_threads = options.n_threads or usable_cores()
    params.n_threads_batch = options.n_threads_batch or params.n_threads
    params.flash_attn_type = _FLASH_ATTENTION[options.flash_attn]
    params.type_k = _NUMBERS[options.type_k]
    params.type_v = _NUMBERS[options.type_v]
    params.no_perf = False
    if hasattr(params, "n_outputs_max_per_seq"):
        params.n_outputs_max_per_seq = draft_tokens + 1
    if options.rope_scaling_type is not None:
        params.rope_scaling_type = _ROPE_SCALING[options.rope_scaling_type]
    for name in ("rope_freq_base", "rope_freq_scale", *_YARN):
        if getattr(options, name) is not None:
            setattr(params, name, getattr(options, name))
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise EngineRefused(
            f"llama.cpp could not make a context of n_ctx={options.n_ctx} for "
            f"{options.n_seq_max} sequences, with keys of {options.type_k} and values of "
            f"{options.type_v}; its log says why"
        )
    return context


def _check_sizes(options: LlamaCppOptions, draft_tokens: int) -> None:
    if options.n_batch < options.n_seq_max:
        raise EngineRefused(
            f"n_batch={options.n_batch} cannot hold a token of each of "
            f"n_seq_max={options.n_seq_max} sequences"
        )
    if min(options.n_batch, options.n_ctx) <= draft_tokens:
        raise EngineRefused(
            f"n_batch={options.n_batch} cannot hold {draft_tokens} drafted tokens and the one "
            "before them"
        )
    if options.flash_attn == "off" and is_quantized(options.type_v):
        raise EngineRefused(
            f"type_v={options.type_v} needs flash attention: leave flash_attn=off out, or "
            "give type_v=f16"
        )


def _check_rope(own_scale: float, options: LlamaCppOptions) -> None:
    """llama.cpp takes each of these and silently changes nothing. Raises EngineRefused."""
    kind, scale = options.rope_scaling_type, options.rope_freq_scale
    if kind == "none" and scale is not None:
        raise EngineRefused("rope_scaling_type=none ignores rope_freq_scale: leave one out")
    if kind in ("linear", "yarn") and scale is None and own_scale == 1.0:
        raise EngineRefused(
            f"rope_scaling_type={kind} changes nothing without a rope_freq_scale: give 0.5 for a "
            "context twice as long"
        )
    for name in _YARN:
        if getattr(options, name) is not None and kind != "yarn":
            raise EngineRefused(f"{name} needs rope_scaling_type='yarn'")
    if options.yarn_attn_factor is not None and options.yarn_ext_factor != 0:
        raise EngineRefused(
            "yarn_attn_factor needs yarn_ext_factor=0: llama.cpp computes it otherwise"
        )


def element_bytes(name: str) -> float:
    """Average size of a number of this type in a cache, in bytes."""
    kind = cache_type(name)
    return kind.bytes / kind.elements


def is_quantized(name: str) -> bool:
    """Whether several numbers of this type share a scale."""
    return cache_type(name).elements > 1
