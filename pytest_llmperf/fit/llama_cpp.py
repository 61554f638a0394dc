"""How much memory does llama.cpp take for a model and its options?

Sources: ``llama-model.cpp`` (which layer goes where), ``llama-context.cpp`` (``graph_reserve``:
buffers for a whole micro-batch), ``ggml-cpu/repack.cpp`` (types that a CPU keeps in another
order). What a process itself takes was measured: docs/benchmarks.md.
"""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.fit.footprint import NOTHING, RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.fit.size_of_files import size_of_files
from pytest_llmperf.models.describe import describe
from pytest_llmperf.models.layers import LlamaContext, llama_cpp_bytes
from pytest_llmperf.models.weights import Weights

_MIB = 1 << 20
_F32 = 4
_PROCESS = Interval(50 * _MIB, 55 * _MIB)
"""The interpreter, the binding and the library; a CPU build of llama-cpp-python 0.3.36."""
_TOKEN = Interval(115, 155)
"""What llama.cpp keeps of each token of the vocabulary, in bytes."""
_CUDA_CONTEXT = Interval(250 * _MIB, 700 * _MIB)
REPACKED = frozenset({"Q4_0", "Q4_K", "IQ4_NL"})
"""Types of which an x86 CPU with AVX2 makes a copy in another order."""
_USUAL_PROMPT = 512
_LEAST_WORK, _MOST_WORK = (1.0, 4.5), (2.2, 8.5)
"""Numbers of a token at once, by the widths of its MLP and of the model: what was measured, of
MLPs without a gate and with one."""
_RESERVED_SHARE = 0.1  # by which a build's buffers may differ from the formula


def llama_cpp_footprint(
    size: ModelSize,
    options: LlamaCppOptions,
    shares: tuple[float, ...] = (),
    *,
    load: Load | None = None,
    repacked: frozenset[str] = REPACKED,
) -> Footprint:
    """Footprint of a model, its layers on GPUs divided into ``shares``; none: all on the CPU.

    ``load``: the work to come, which decides how much of its buffers a CPU touches; None: any.
    ``repacked``: the types that the CPU copies. The model that drafts is counted in. Raises
    UnsupportedModel for a cache that llama.cpp would refuse, ModelError for such a draft model.
    """
    alone = _of_one_model(size, options, shares, load, repacked)
    if options.draft_model is None:
        return alone
    draft = size_of_files(describe(Path(options.draft_model).expanduser(), "gguf"))
    beside = _of_one_model(draft, options.of_draft(), shares, load, repacked, is_first=False)
    return alone.with_another(beside)


def _of_one_model(
    size: ModelSize,
    options: LlamaCppOptions,
    shares: tuple[float, ...],
    load: Load | None,
    repacked: frozenset[str],
    *,
    is_first: bool = True,
) -> Footprint:
    """``is_first``: what a process takes anyway is counted with it."""
    context = context_of(options)
    weights, layers = size.weights, size.layers
    count = len(weights.layers)
    wanted = count + 1 if options.n_gpu_layers < 0 else options.n_gpu_layers
    moves_output = bool(shares) and wanted > 0
    first = max(count + 1 - wanted, 0) if moves_output else count  # the output is the last of all
    caches = [llama_cpp_bytes(each, context) for each in layers.layers] if layers else []
    host = weights.tables + sum(weights.layers[:first]) + (0 if moves_output else weights.output)
    moved = sum(weights.layers[first:]) + weights.output + weights.tied
    ram = Share(
        device=RAM,
        weights=Interval.around(host + size.header_bytes, weights.doubt),
        copies=_copied(weights, first, repacked) if options.use_mmap else 0,
        cache=sum(caches[:first]),
        compute=_touched(size, context, options, load),
        overhead=_process(size, is_first=is_first),
    )
    gpus = (
        Share(
            device=f"vram:{index}",
            weights=Interval.around(moved * share, weights.doubt),
            cache=round(sum(caches[first:]) * share),
            compute=_reserved(size, context, options),
            overhead=_CUDA_CONTEXT if is_first else NOTHING,
        )
        for index, share in enumerate(shares if moves_output else ())
        if share
    )
    return Footprint(
        context_tokens=context.context_tokens // context.sequences,
        sequences=context.sequences,
        shares=(ram, *gpus),
        notes=size.notes,
    )


def context_of(options: LlamaCppOptions) -> LlamaContext:
    """The context that the llama-cpp backend makes for these options."""
    return LlamaContext(
        context_tokens=options.n_ctx,
        sequences=options.n_seq_max,
        ubatch_tokens=min(options.n_ubatch, options.n_batch, options.n_ctx),
        swa_full=True,
        key_type=options.type_k,
        value_type=options.type_v,
    )


def _copied(weights: Weights, first: int, repacked: frozenset[str]) -> int:
    """Bytes of the matrices in main memory that are there twice."""
    share = sum(weights.layers[:first]) / max(1, sum(weights.layers))
    return round(sum(each for name, each in weights.types.items() if name in repacked) * share)


def _process(size: ModelSize, *, is_first: bool) -> Interval:
    vocab = size.layers.vocab if size.layers else 0
    own = _PROCESS if is_first else NOTHING
    return own + Interval(_TOKEN.low * vocab, _TOKEN.high * vocab)


def _reserved(size: ModelSize, context: LlamaContext, options: LlamaCppOptions) -> Interval:
    """Buffers for a micro-batch of tokens that all want their logits, set apart whole.

    n_ubatch × (n_vocab + n_embd) × 4 bytes; without flash attention the scores of one layer on
    top, n_head × n_kv × n_ubatch × 4.
    """
    if size.layers is None:
        return NOTHING
    tokens = context.ubatch_tokens
    numbers = tokens * (size.layers.vocab + size.layers.hidden)
    if options.flash_attn == "off":
        numbers += size.layers.heads * context.context_tokens * tokens
    return Interval.around(numbers * _F32, _RESERVED_SHARE)


def _touched(
    size: ModelSize, context: LlamaContext, options: LlamaCppOptions, load: Load | None
) -> Interval:
    """The pages of these buffers that a prompt writes to: one row of logits, not all."""
    if size.layers is None:
        return NOTHING
    shortest = min(load.prompt_tokens if load else _USUAL_PROMPT, context.context_tokens)
    longest = min(load.context_tokens if load else context.context_tokens, context.context_tokens)
    most = context.ubatch_tokens
    least = min(most, shortest)
    low, high = (
        tokens * (of_inner * size.inner + of_hidden * size.layers.hidden)
        for tokens, (of_inner, of_hidden) in ((least, _LEAST_WORK), (most, _MOST_WORK))
    )
    high += context.sequences * size.layers.vocab
    if options.flash_attn == "off":
        low += size.layers.heads * shortest * least
        high += 1.5 * size.layers.heads * longest * most
    return Interval(round(low * _F32), round(high * _F32))
