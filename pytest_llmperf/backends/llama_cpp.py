"""llama.cpp, through the low-level interface of llama-cpp-python."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from pytest_llmperf.backends.llama_context import element_bytes, make_context
from pytest_llmperf.backends.llama_drafts import Drafter, LookupDrafter, ModelDrafter, Speculation
from pytest_llmperf.backends.llama_model import load_model
from pytest_llmperf.backends.llama_scores import logits_of, tokenize
from pytest_llmperf.backends.llama_sequences import LlamaSequences
from pytest_llmperf.backends.protocol import (
    BackendOptions,
    Engine,
    EngineFacts,
    EngineMissing,
    EngineRefused,
    EngineTimings,
    ModelFormat,
    Request,
    TextTokens,
)
from pytest_llmperf.backends.speculation import CAVEAT
from pytest_llmperf.models import ModelFiles

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline

_GGML_INFO, _GGML_CONTINUES = 2, 5  # enum ggml_log_level in ggml.h; debug is 1
_DRAFT_TOKENS = 16  # as llama.cpp's own --draft-max
_NGRAM_TOKENS = 2
_Count = Annotated[int, msgspec.Meta(ge=1)]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class LlamaCppOptions(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="llama-cpp")``, named as llama.cpp names them."""

    n_ctx: Annotated[int, msgspec.Meta(ge=1)] = 2048
    """Context in tokens: prompt and generated tokens of all sequences together."""
    n_seq_max: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Sequences decoded at once; each has an equal share of ``n_ctx``."""
    n_batch: Annotated[int, msgspec.Meta(ge=1)] = 2048
    """Prompt tokens handed over at once."""
    n_ubatch: Annotated[int, msgspec.Meta(ge=1)] = 512
    """Prompt tokens computed at once."""
    n_threads: int | None = None
    """Threads that decode; None: the cores this process may use."""
    n_threads_batch: int | None = None
    """Threads that read the prompt; None: as ``n_threads``."""
    flash_attn: Literal["auto", "on", "off"] = "auto"
    type_k: CacheType = "f16"
    """Type of the cached keys."""
    type_v: CacheType = "f16"
    """Type of the cached values; a quantized one needs flash attention."""
    use_mmap: bool = True
    """Map the model file instead of reading it into private memory."""
    use_mlock: bool = False
    """Lock the weights in memory, so that they are never swapped out."""
    n_gpu_layers: int = -1
    """Layers on the GPU; −1: all, when the build has a GPU."""
    split_mode: Literal["none", "layer", "row"] | None = None
    """How several GPUs share a model; None: by layers."""
    main_gpu: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The GPU that takes what is not shared; None: the first."""
    tensor_split: str | None = None
    """What each GPU gets, in parts: ``3,1``; None: by their free memory."""
    rope_scaling_type: Literal["none", "linear", "yarn"] | None = None
    """How positions beyond the trained context are scaled; None: as the model says."""
    rope_freq_base: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Base of the rotary frequencies; None: as the model says."""
    rope_freq_scale: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Factor of the positions, 0.5 for a context twice as long; None: as the model says."""
    yarn_ext_factor: float | None = None
    """YaRN's mix of interpolation (0) and extrapolation (1); None: 1."""
    yarn_attn_factor: float | None = None
    """YaRN's factor of the attention's magnitude; None: 1."""
    yarn_beta_fast: float | None = None
    """Turns within the trained context above which YaRN extrapolates; None: 32."""
    yarn_beta_slow: float | None = None
    """Turns below which YaRN interpolates; None: 1."""
    yarn_orig_ctx: _Count | None = None
    """Tokens of context that the model was trained with; None: as the model says."""
    draft_model: str | None = None
    """GGUF file of a smaller model of the same vocabulary, which drafts tokens."""
    draft_max: _Count | None = None
    """Tokens that it drafts for a step; None: 16."""
    prompt_lookup_num_tokens: _Count | None = None
    """Draft so many tokens from where the last ones stood before; None: do not."""
    max_ngram_size: _Count | None = None
    """Tokens that must be the same there, at most; None: 2."""

    def gpus(self) -> int | None:
        """All of them, as llama.cpp shares a model by itself; with split_mode="none" any one."""
        if self.n_gpu_layers == 0:
            return 0
        is_named = self.main_gpu is not None or self.tensor_split is not None
        return 1 if self.split_mode == "none" and not is_named else None

    def of_draft(self) -> LlamaCppOptions:
        """What of these holds for the model that drafts."""
        return LlamaCppOptions(
            n_ctx=self.n_ctx,
            n_batch=self.n_batch,
            n_ubatch=self.n_ubatch,
            n_threads=self.n_threads,
            n_threads_batch=self.n_threads_batch,
            flash_attn=self.flash_attn,
            use_mmap=self.use_mmap,
            n_gpu_layers=self.n_gpu_layers,
        )


class LlamaCpp:
    """The llama.cpp backend."""

    name: ClassVar[str] = "llama-cpp"
    distribution: ClassVar[str | None] = "llama-cpp-python"
    install: ClassVar[str] = "pip install 'pytest-llmperf[llama-cpp]'"
    model_format: ClassVar[ModelFormat | None] = "gguf"
    default_quantization: ClassVar[str | None] = "Q4_K_M"
    options_type: ClassVar[type[BackendOptions]] = LlamaCppOptions

    clock = staticmethod(time.perf_counter_ns)

    def import_engine(self) -> str:
        """Import llama_cpp, which loads the native library. Raises EngineMissing."""
        try:
            import llama_cpp
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineMissing(f"cannot import llama_cpp: {error}") from error
        return str(llama_cpp.__version__)

    def load(
        self, model: ModelFiles | None, options: BackendOptions, invocation: int
    ) -> LlamaCppEngine:
        """Load a GGUF file and make a context. Raises EngineRefused."""
        del invocation
        assert model is not None
        assert isinstance(options, LlamaCppOptions)
        return LlamaCppEngine(model, options)


class LlamaCppEngine(Engine):
    """A GGUF model with one context."""

    def __init__(self, model: ModelFiles, options: LlamaCppOptions) -> None:
        import llama_cpp

        self._lib: Any = llama_cpp
        self._log = _log_to_stderr(llama_cpp)
        self._lib.llama_backend_init()
        draft_tokens = _draft_tokens(options)
        self._model = load_model(llama_cpp, model.path, options)
        self._context = make_context(llama_cpp, self._model, options, draft_tokens)
        self._vocab_size = self._vocabulary_of(self._model)
        self._sequences = LlamaSequences(self._lib, self._context, self._vocab_size)
        self._prompt_tokens = 0
        self._options = options
        self._speculation = self._drafting(options, draft_tokens)

    def _vocabulary_of(self, model: Any) -> int:
        return int(self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(model)))

    def _drafting(self, options: LlamaCppOptions, most: int) -> Speculation | None:
        """Raises EngineRefused."""
        if not most:
            return None
        lib, model = self._lib, self._model
        if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
            raise EngineRefused("a recurrent model cannot take drafted tokens back")
        drafter: Drafter
        if options.draft_model is None:
            drafter = LookupDrafter(options.max_ngram_size or _NGRAM_TOKENS)
        else:
            drafter = self._load_draft(options.draft_model, options)
        return Speculation(self._sequences, drafter, most)

    def _load_draft(self, path: str, options: LlamaCppOptions) -> ModelDrafter:
        """Load the model that drafts. Raises EngineRefused."""
        if not Path(path).is_file():
            raise EngineRefused(f"draft_model={path} is no file: give the path of a GGUF file")
        own = options.of_draft()
        model = load_model(self._lib, path, own)
        vocab_size = self._vocabulary_of(model)
        if vocab_size != self._vocab_size:
            raise EngineRefused(
                f"draft_model={path} has {vocab_size} tokens in its vocabulary, the model "
                f"{self._vocab_size}: it must have the same"
            )
        return ModelDrafter(self._lib, model, make_context(self._lib, model, own), vocab_size)

    def facts(self) -> EngineFacts:
        """Describe the engine with the values that llama.cpp uses; what `auto` became is logged."""
        lib, context, device = self._lib, self._context, self._device()
        in_force = msgspec.structs.replace(
            self._options,
            n_ctx=int(lib.llama_n_ctx(context)),
            n_batch=int(lib.llama_n_batch(context)),
            n_ubatch=int(lib.llama_n_ubatch(context)),
            n_threads=int(lib.llama_n_threads(context)),
            n_threads_batch=int(lib.llama_n_threads_batch(context)),
            draft_max=(self._options.draft_max or _DRAFT_TOKENS)
            if self._options.draft_model
            else None,
            max_ngram_size=(self._options.max_ngram_size or _NGRAM_TOKENS)
            if self._options.prompt_lookup_num_tokens
            else None,
        )
        drafts = self._speculation is not None
        return EngineFacts(
            vocab_size=self._vocab_size,
            context_tokens=int(lib.llama_n_ctx_seq(context)),
            options=msgspec.to_builtins(in_force),
            build=lib.llama_print_system_info().decode(errors="replace").strip(),
            batch=in_force.n_seq_max,
            batch_remedy="load without what drafts tokens"
            if drafts
            else f"load with n_seq_max=… and n_ctx={in_force.n_ctx} times as many",
            device=device,
            threads=None if device == "gpu" else in_force.n_threads,
            # A step of several tokens, and of two models, reads what nobody can tell.
            kv_element_bytes=None
            if drafts
            else (element_bytes(in_force.type_k) + element_bytes(in_force.type_v)) / 2,
            random_caveats=[CAVEAT] if drafts else [],
        )

    def _device(self) -> str:
        """``cpu``, ``gpu``, or ``cpu and gpu`` where some of the layers or the head stay behind."""
        asked = self._options.n_gpu_layers
        if asked == 0 or not self._lib.llama_supports_gpu_offload():
            return "cpu"
        all_layers = int(self._lib.llama_model_n_layer(self._model)) + 1
        return "gpu" if asked < 0 or asked >= all_layers else "cpu and gpu"

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Read the prompts in batches, then decode one token of each sequence at a time."""
        if self._speculation is not None:
            self._generate_drafted(self._speculation, request, timeline)
            return
        sequences, prompts, depth = self._sequences, request.prompts, request.depth
        length = len(prompts[0])
        self._prompt_tokens = length - depth
        arrived = timeline.step if len(prompts) > 1 else lambda tokens: timeline.token(tokens[0])
        sequences.clear()
        if depth:
            sequences.read(prompts, 0, depth)
        sequences.settle()
        timeline.start()
        tokens = sequences.read(prompts, depth, length)
        arrived(tokens)
        for position in range(length, length + request.new_tokens - 1):
            tokens = sequences.decode(tokens, position)
            arrived(tokens)

    def _generate_drafted(
        self, speculation: Speculation, request: Request, timeline: Timeline
    ) -> None:
        """Read the prompt, then check drafts of the only sequence."""
        sequences, drafter, (prompt,) = self._sequences, speculation.drafter, request.prompts
        sequences.clear()
        drafter.begin(prompt, request.depth)
        if request.depth:
            sequences.read([prompt], 0, request.depth)
        for each in self._clocks():
            each.settle()
        timeline.start()
        first = sequences.read([prompt], request.depth, len(prompt))
        timeline.chunk(first)
        speculation.decode(prompt, first[0], request.new_tokens, timeline)

    def _clocks(self) -> list[LlamaSequences]:
        """The sequences of each model, which keep its clock."""
        drafting = self._speculation.drafter.sequences if self._speculation else None
        return [self._sequences, *([drafting] if drafting else [])]

    def tokenize(self, text: str) -> TextTokens:
        """With the file's own tokenizer."""
        return tokenize(self._lib, self._model, text)

    def logits(self, tokens: list[int]) -> Any:
        """In a context of its own, which is gone afterwards."""
        return logits_of(self._lib, self._model, self._options, self._vocab_size, tokens)

    def timings(self) -> EngineTimings | None:
        """llama.cpp's own clocks over the last request."""
        if self._speculation is None:
            return self._sequences.timings(self._prompt_tokens)
        return EngineTimings(total_s=sum(each.timings(0).total_s for each in self._clocks()))

    def close(self) -> None:
        """Free batch, context and model."""
        if self._speculation is not None:
            self._speculation.drafter.close()
        self._sequences.close()
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)


def _draft_tokens(options: LlamaCppOptions) -> int:
    """How many tokens a draft has at most; 0: none is made. Raises EngineRefused."""
    if options.draft_model is not None and options.prompt_lookup_num_tokens is not None:
        raise EngineRefused(
            "draft_model and prompt_lookup_num_tokens both draft tokens: leave one out"
        )
    if options.draft_max is not None and options.draft_model is None:
        raise EngineRefused("draft_max needs a draft_model")
    if options.max_ngram_size is not None and options.prompt_lookup_num_tokens is None:
        raise EngineRefused("max_ngram_size needs prompt_lookup_num_tokens")
    if options.draft_model is not None:
        most = options.draft_max or _DRAFT_TOKENS
    else:
        most = options.prompt_lookup_num_tokens or 0
    if most and options.n_seq_max > 1:
        raise EngineRefused(
            f"tokens are drafted for one sequence at a time: leave n_seq_max={options.n_seq_max} "
            "out, or what drafts"
        )
    return most


def _log_to_stderr(lib: Any) -> Any:
    """Have llama.cpp's log, less its debugging lines, written to the worker's own log.

    The binding filters by names that ggml has since renumbered: it would keep the debugging lines
    and drop the errors. Returns the callback, which must live as long as the library is used.
    """
    last = _GGML_INFO

    def write(level: int, text: bytes, _: object) -> None:
        nonlocal last
        last = last if level == _GGML_CONTINUES else level
        if last >= _GGML_INFO:
            os.write(2, text)

    callback = lib.llama_log_callback(write)
    lib.llama_log_set(callback, None)
    return callback
