"""Hugging Face transformers: ``generate`` with a streamer that takes the instant of each token."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from pytest_llmperf.backends.protocol import (
    BackendOptions,
    EngineFacts,
    EngineMissing,
    EngineRefused,
    ModelFormat,
    Request,
    TextTokens,
)
from pytest_llmperf.backends.speculation import CAVEAT
from pytest_llmperf.backends.timeline import Timeline
from pytest_llmperf.backends.torch_engine import TorchEngine
from pytest_llmperf.backends.transformers_batching import ContinuousBatching, asks_for_continuous
from pytest_llmperf.backends.transformers_cache import CacheKind, CacheQuantizer, RequestCaches
from pytest_llmperf.backends.transformers_compiling import (
    compiled_graphs,
    compiling,
    graph_breaks,
)
from pytest_llmperf.backends.transformers_packing import (
    FOUR_BIT,
    Packing,
    computing_caveats,
    packed_weights,
    require_unpackers,
    require_whole_blocks,
    unpacker,
    weight_element_bytes,
)
from pytest_llmperf.backends.transformers_placement import (
    choose_device,
    computing_device,
    gpus_of,
    sharing,
    where,
)
from pytest_llmperf.backends.transformers_scores import logits_of, tokenize
from pytest_llmperf.backends.transformers_speculation import (
    ChunkStreamer,
    Speculation,
    asks_for_speculation,
)
from pytest_llmperf.backends.transformers_streaming import (
    TimelineStreamer,
    generate_queue,
    refuse_other_limit,
)
from pytest_llmperf.backends.transformers_weights import read_model, torch_build
from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.models import ModelFiles

if TYPE_CHECKING:
    from pytest_llmperf.backends.transformers_cache import CacheUse

_Count = Annotated[int, msgspec.Meta(ge=1)]
_TRIAL = Request(prompts=[[1, 2, 3, 4, 5, 6, 7, 8]], new_tokens=4)
"""What is asked once while loading, where a technique must be seen working."""
_OTHER_TRIAL = Request(prompts=[[1, 2, 3, 4, 5, 6, 7, 8]], new_tokens=12)
"""Of another size: torch compiles for one size first, then for any."""


class TransformersOptions(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="transformers")``, named as ``from_pretrained`` does."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Element type of the weights in memory; auto: as in the file."""
    attn_implementation: str = "sdpa"
    device: str = "auto"
    """``cpu``, ``cuda``, ``mps``, ``cuda:1``; auto: the first accelerator, else the CPU."""
    num_threads: int | None = None
    """Threads of torch on the CPU; None: the cores this process may use."""
    device_map: Literal["auto", "balanced", "sequential"] | None = None
    """Have accelerate share the layers among GPUs and RAM; None: all are on ``device``."""
    max_memory: str | None = None
    """What weights may take of each device then: ``0=6GiB, cpu=16GiB``; GPUs by number."""
    offload_folder: str | None = None
    """Leave layers beyond ``max_memory`` to the disk; None: refuse that. Safetensors are read
    where they are, anything else is written to this folder."""
    quantize: Packing | None = None
    """Pack the weights of linear layers while they are loaded; None: as they are in the file."""
    compute_dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """What ``nf4`` and ``fp4`` are multiplied in; None: ``dtype``, bfloat16 if that is auto."""
    cache_implementation: CacheKind = "dynamic"
    """``static``: as large as the request from the start; ``quantized``: see ``cache_backend``;
    ``off``: each step reads everything again."""
    cache_backend: CacheQuantizer | None = None
    """What quantizes the cache; None: quanto. ``fp8`` takes none of the three options below."""
    cache_nbits: Literal[2, 4] | None = None
    """Bits of a cached number; None: 4."""
    cache_group_size: _Count | None = None
    """Cached numbers that share a scale; None: 64."""
    cache_residual_length: _Count | None = None
    """Generated tokens that wait in full precision until they are quantized together; None: 128."""
    batching: Literal["continuous"] | None = None
    """Decode batches as ``generate_batch`` does, with a paged cache; None: as one tensor."""
    page_size: _Count | None = None
    """Tokens of a page of that cache; None: 256."""
    num_blocks: _Count | None = None
    """Pages of each layer, taken while loading; None: 32."""
    max_batch_tokens: _Count | None = None
    """Tokens that a step may compute; None: 8192."""
    max_requests_per_batch: _Count | None = None
    """Requests that it decodes at once; None: 1024."""
    static_batch: _Count | None = None
    """Without it: requests of a queue that begin together, and go on until all are done; None: all
    of the queue."""
    compile: bool = False
    """Compile the decode step with torch.compile while loading; needs a static cache."""
    assistant_model: str | None = None
    """Folder of a smaller model of the same vocabulary, which drafts tokens."""
    num_assistant_tokens: _Count | None = None
    """Tokens that it drafts at most for a step; None: 20."""
    assistant_confidence_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """Probability below which it drafts no further; None: 0.4."""
    prompt_lookup_num_tokens: _Count | None = None
    """Draft so many tokens from where the last ones stood before; None: do not."""
    max_matching_ngram_size: _Count | None = None
    """Tokens that must be the same there, at most; None: 2."""

    def gpus(self) -> int | None:
        """One, unless layers are shared."""
        return gpus_of(self.device) if self.device_map is None else None


class Transformers:
    """The transformers backend."""

    name: ClassVar[str] = "transformers"
    distribution: ClassVar[str | None] = "transformers"
    install: ClassVar[str] = "pip install 'pytest-llmperf[transformers]'"
    model_format: ClassVar[ModelFormat | None] = "hf"
    default_quantization: ClassVar[str | None] = "BF16"
    options_type: ClassVar[type[BackendOptions]] = TransformersOptions

    clock = staticmethod(time.perf_counter_ns)

    def import_engine(self) -> str:
        """Import torch and transformers. Raises EngineMissing."""
        try:
            import torch  # noqa: F401 - engines are imported in workers only
            import transformers
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineMissing(f"cannot import transformers with torch: {error}") from error
        major = int(transformers.__version__.partition(".")[0])
        if major < 5:
            raise EngineMissing(
                f"transformers {transformers.__version__} is too old: 5 or later is needed"
            )
        return str(transformers.__version__)

    def load(self, model: ModelFiles | None, options: BackendOptions, invocation: int) -> Any:
        """Load a model folder. Raises EngineRefused."""
        del invocation
        assert model is not None
        assert isinstance(options, TransformersOptions)
        return TransformersEngine(model, options)


class TransformersEngine(TorchEngine):
    """A causal language model on one device."""

    def __init__(self, model: ModelFiles, options: TransformersOptions) -> None:
        import torch
        import transformers

        self._torch = torch
        self._options, self._path = options, model.path
        torch.set_num_threads(options.num_threads or usable_cores())
        self._device = choose_device(torch, options.device)
        shared = sharing(options)
        require_unpackers(model.path)
        packed = packed_weights(torch, options, self._device)
        continuous, drafts = asks_for_continuous(options), asks_for_speculation(options)
        refuse_other_limit(options)
        compiled = compiling(options)
        # Tensor subclasses of quanto cannot be used under inference_mode.
        is_quanto = (options.quantize or "").startswith("quanto")
        is_quanto |= options.cache_implementation == "quantized"
        self._without_gradients: Any = torch.no_grad if is_quanto else torch.inference_mode
        loaded = read_model(model.path, options, packed | shared)
        self._model = (loaded if packed or shared else loaded.to(self._device)).eval()
        if options.quantize in FOUR_BIT and self._device.type == "cpu":
            require_whole_blocks(self._model)
        if shared:
            self._device = computing_device(torch, self._model)
        self._where = where(self._model, self._device, options)
        self._model.generation_config = transformers.GenerationConfig(
            do_sample=False,
            num_beams=1,
            use_cache=options.cache_implementation != "off",
            eos_token_id=None,
            pad_token_id=0,
            **compiled,
        )
        self._caches = RequestCaches(self._model.config, options)
        self._cache_use: CacheUse | None = None
        self._compile_s: float | None = None
        self._speculation = Speculation(self._model, options) if drafts else None
        self._continuous = self._start_batching() if continuous else None
        self._try()

    def _start_batching(self) -> ContinuousBatching:
        try:
            return ContinuousBatching(self._model, self._options)
        except ValueError as error:
            raise EngineRefused(f"batching=continuous: {error}") from error

    def _try(self) -> None:
        """See a technique at work before anything is measured. Raises EngineRefused."""
        options = self._options
        usual = options.cache_implementation == "dynamic" and options.batching is None
        if usual and self._speculation is None:
            return
        trials = (_TRIAL, _OTHER_TRIAL) if options.compile else (_TRIAL,)
        began_s = time.perf_counter()
        try:
            with self._caches.refusing_cached_steps(self._model, trials):
                for trial in trials:
                    self.generate(trial, Timeline(trial.new_tokens))
        except (ValueError, RuntimeError, ImportError, NotImplementedError) as error:
            raise EngineRefused(f"transformers does not generate with these: {error}") from error
        if not options.compile:
            return
        if not compiled_graphs():
            raise EngineRefused("compile=true, but transformers compiled nothing; its log says why")
        self._compile_s = time.perf_counter() - began_s
        _log(f"compile: {compiled_graphs()} graphs, {graph_breaks()} breaks")

    def facts(self) -> EngineFacts:
        """Describe the engine, with the device, element type and attention really in use."""
        config, kernels = self._model.config, unpacker(self._model)
        drafts = self._speculation
        in_force = msgspec.structs.replace(
            self._options,
            device=str(self._device),
            num_threads=int(self._torch.get_num_threads()),
            attn_implementation=str(config._attn_implementation),
            **self._caches.in_force,
            **(drafts.in_force if drafts else {}),
            **(self._continuous.in_force if self._continuous else {}),
        )
        options = msgspec.to_builtins(in_force)
        options["dtype"] = str(self._model.dtype).removeprefix("torch.")
        return EngineFacts(
            vocab_size=int(self._model.get_input_embeddings().weight.shape[0]),
            context_tokens=self._context_tokens(),
            options=options,
            build=", ".join(filter(None, (torch_build(self._torch), kernels))),
            **self._at_once(),
            device=self._where,
            threads=int(self._torch.get_num_threads()) if self._device.type == "cpu" else None,
            weight_element_bytes=self._weight_element_bytes(),
            kv_element_bytes=self._kv_element_bytes(),
            compile_s=self._compile_s,
            caveats=computing_caveats(self._model),
            random_caveats=[CAVEAT] if drafts else [],
        )

    def _at_once(self) -> dict[str, Any]:
        """How many sequences it decodes at once, and whether further ones may wait."""
        if self._speculation:
            return {"batch": 1, "batch_remedy": "load without what drafts tokens"}
        name = "max_requests_per_batch" if self._continuous else "static_batch"
        most = getattr(self._options, name)
        return {"batch": most, "batch_remedy": f"load with a larger {name}", "queue": True}

    def _context_tokens(self) -> int:
        config = self._model.config
        trained = getattr(config, "max_position_embeddings", None)
        most = int(trained or 2**31)
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") == "dynamic":  # it is told what was trained, and grows with it
            most = int(most * rope["factor"])
        return min(most, self._continuous.cache_tokens) if self._continuous else most

    def _weight_element_bytes(self) -> float | None:
        """None: packed in the file already, which tells more."""
        if self._options.quantize is not None:
            return weight_element_bytes(self._model)
        if getattr(self._model.config, "quantization_config", None) is not None:
            return None
        return float(self._model.dtype.itemsize)

    def _kv_element_bytes(self) -> float | None:
        """None: a step of several tokens, and of two models, reads what nobody can tell."""
        if self._speculation is not None:
            return None
        if self._caches.kind == "off":
            return 0.0
        if self._cache_use is not None:
            return self._cache_use.element_bytes
        return float(self._model.dtype.itemsize)

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Run ``generate``; the streamer receives a step after generate's own copy to the host."""
        if self._continuous is not None:
            self._continuous.generate(request, timeline)
        elif request.lengths:
            generate_queue(request, self._options.static_batch, timeline, self._generate)
        else:
            streamer = (ChunkStreamer if self._speculation else TimelineStreamer)(timeline)
            self._generate(request, streamer, timeline.start)
        if self._speculation is not None:
            self._speculation.report(len(request.prompts[0]), timeline.chunk_tokens)

    def _generate(self, request: Request, streamer: Any, start: Callable[[], None]) -> None:
        torch, drafts = self._torch, self._speculation
        if drafts is not None and request.depth:
            raise EngineRefused(
                "transformers cannot draft tokens on top of a cache that it got: ask for depth=0"
            )
        with self._without_gradients():
            inputs = torch.tensor(request.prompts, dtype=torch.long, device=self._device)
            mask = torch.ones_like(inputs)
            extra = drafts.arguments if drafts else self._cache_for(request, inputs)
            if drafts:
                drafts.begin()
            self._settle()
            start()
            self._model.generate(
                inputs,
                attention_mask=mask,
                max_new_tokens=request.new_tokens,
                streamer=streamer,
                **extra,
            )
        if not drafts and "past_key_values" in extra:
            self._look_into(extra["past_key_values"])

    def tokenize(self, text: str) -> TextTokens:
        """With the tokenizer that lies beside the model. Raises EngineRefused."""
        return tokenize(self._path, text)

    def logits(self, tokens: list[int]) -> Any:
        """Through the cache in force. Raises EngineRefused for what runs in another way."""
        for name in ("batching", "compile"):
            if getattr(self._options, name):
                raise EngineRefused(f"what {name}= computes gives no logits: leave it out to read")
        with self._without_gradients():
            inputs = self._torch.tensor([tokens], dtype=self._torch.long, device=self._device)
            return logits_of(self._torch, self._model, self._caches, inputs)

    def _cache_for(self, request: Request, inputs: Any) -> dict[str, Any]:
        """The cache as an argument of ``generate``, with the tokens that are read ahead in it."""
        if not request.depth and self._caches.kind in ("dynamic", "off"):
            return {}
        cache = self._caches.make(request.total_tokens)
        if request.depth:
            ahead = inputs[:, : request.depth]
            self._model(ahead, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return {"past_key_values": cache}

    def _look_into(self, cache: Any) -> None:
        """Write to the worker's log how much of a cache was quantized."""
        used = self._caches.use(cache)
        if used is not None:
            self._cache_use = used
            _log(
                f"cache: {used.quantized_tokens} of {used.tokens} tokens quantized, "
                f"{used.element_bytes:.3f} bytes a number"
            )

    def close(self) -> None:
        """Drop the model, and with it its memory."""
        if self._speculation is not None:
            self._speculation.close()
        if self._continuous is not None:
            self._continuous.close()
        super().close()


def _log(words: str) -> None:
    """To the worker's own log."""
    print(words, file=sys.stderr, flush=True)
