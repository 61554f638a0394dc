"""llama.cpp, through the low-level interface of llama-cpp-python."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

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
)
from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.models import ModelFiles
from pytest_llmperf.models.layers import cache_type
from pytest_llmperf.models.tensor_types import GGML_TYPES

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline

_GGML_INFO, _GGML_CONTINUES = 2, 5  # enum ggml_log_level in ggml.h; debug is 1
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_NUMBERS = {kind.name.lower(): number for number, kind in GGML_TYPES.items()}
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
    n_gpu_layers: int = -1
    """Layers on the GPU; −1: all, when the build has a GPU."""


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
        self._model = self._load_model(model.path, options)
        self._context = self._make_context(options)
        vocabulary = self._lib.llama_model_get_vocab(self._model)
        self._vocab_size = int(self._lib.llama_vocab_n_tokens(vocabulary))
        self._sequences = LlamaSequences(self._lib, self._context, self._vocab_size)
        self._prompt_tokens = 0
        self._options = options

    def _load_model(self, path: str, options: LlamaCppOptions) -> Any:
        lib = self._lib
        params = lib.llama_model_default_params()
        params.n_gpu_layers = options.n_gpu_layers
        if hasattr(params, "use_mmap"):
            params.use_mmap = options.use_mmap
        else:  # newer bindings name the way of loading instead of a flag
            params.load_mode = (
                lib.LLAMA_LOAD_MODE_MMAP if options.use_mmap else lib.LLAMA_LOAD_MODE_NONE
            )
        model = lib.llama_model_load_from_file(path.encode(), params)
        if not model:
            raise EngineRefused(f"llama.cpp could not load {path}; its log says why")
        return model

    def _make_context(self, options: LlamaCppOptions) -> Any:
        lib = self._lib
        if options.n_batch < options.n_seq_max:
            raise EngineRefused(
                f"n_batch={options.n_batch} cannot hold a token of each of "
                f"n_seq_max={options.n_seq_max} sequences"
            )
        if options.flash_attn == "off" and _is_quantized(options.type_v):
            raise EngineRefused(
                f"type_v={options.type_v} needs flash attention: leave flash_attn=off out, or "
                "give type_v=f16"
            )
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
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise EngineRefused(
                f"llama.cpp could not make a context of n_ctx={options.n_ctx} for "
                f"{options.n_seq_max} sequences, with keys of {options.type_k} and values of "
                f"{options.type_v}; its log says why"
            )
        return context

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
        )
        return EngineFacts(
            vocab_size=self._vocab_size,
            context_tokens=int(lib.llama_n_ctx_seq(context)),
            options=msgspec.to_builtins(in_force),
            build=lib.llama_print_system_info().decode(errors="replace").strip(),
            batch=in_force.n_seq_max,
            batch_remedy=f"load with n_seq_max=… and n_ctx={in_force.n_ctx} times as many",
            device=device,
            threads=None if device == "gpu" else in_force.n_threads,
            kv_element_bytes=(_element_bytes(in_force.type_k) + _element_bytes(in_force.type_v))
            / 2,
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

    def timings(self) -> EngineTimings | None:
        """llama.cpp's own clocks over the last request."""
        return self._sequences.timings(self._prompt_tokens)

    def close(self) -> None:
        """Free batch, context and model."""
        self._sequences.close()
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)


def _element_bytes(name: str) -> float:
    kind = cache_type(name)
    return kind.bytes / kind.elements


def _is_quantized(name: str) -> bool:
    return cache_type(name).elements > 1


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
