"""TensorRT-LLM through its LLM API: one stream of tokens at a time. Needs an NVIDIA GPU.

Written from the source of its LLM API (``llmapi/llm.py``, ``llmapi/llm_args.py``,
``executor/result.py``, ``sampling_params.py``, 1.x); unproven: no machine that has it has run this.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from pytest_llmperf.backends.protocol import (
    BackendOptions,
    Engine,
    EngineFacts,
    EngineMissing,
    EngineRefused,
    ModelFormat,
    Request,
)
from pytest_llmperf.models import ModelFiles

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline

_USUAL_TOKENS = 2048
_BLOCK = 64
"""Tokens that its cache holds beside a sequence, so that whole blocks of it fit."""
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class TensorRtLlmOptions(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="tensorrt-llm")``, named as ``TorchLlmArgs`` does."""

    max_seq_len: AtLeastOne | None = None
    """Context of a sequence in tokens; None: 2048, or the model's own if that is less."""
    max_num_tokens: AtLeastOne | None = None
    """Prompt tokens that one step reads; None: the whole context."""
    max_tokens: AtLeastOne | None = None
    """Tokens that the KV cache holds; None: what one sequence fills, and no more."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    load_format: Literal["auto", "dummy"] = "auto"
    """``dummy``: weights that TensorRT-LLM makes up."""
    tensor_parallel_size: AtLeastOne = 1
    """GPUs that share each layer."""

    def gpus(self) -> int | None:
        """As many as share a layer."""
        return self.tensor_parallel_size


class TensorRtLlm:
    """The TensorRT-LLM backend."""

    name: ClassVar[str] = "tensorrt-llm"
    distribution: ClassVar[str | None] = "tensorrt-llm"
    install: ClassVar[str] = (
        "install TensorRT-LLM as NVIDIA describes it, or use its container; then "
        "--llmperf-python tensorrt-llm=PATH, the path of its python"
    )
    model_format: ClassVar[ModelFormat | None] = "hf"
    default_quantization: ClassVar[str | None] = "BF16"
    options_type: ClassVar[type[BackendOptions]] = TensorRtLlmOptions

    clock = staticmethod(time.perf_counter_ns)

    def import_engine(self) -> str:
        """Import tensorrt_llm. Raises EngineMissing, for the stub of the package index too."""
        os.environ["TLLM_WORKER_USE_SINGLE_PROCESS"] = "1"  # else its memory is another process's
        os.environ["TRTLLM_NO_USAGE_STATS"] = "1"  # it would tell its makers what runs here
        try:
            import tensorrt_llm
            from tensorrt_llm.llmapi import LLM, KvCacheConfig, SamplingParams  # noqa: F401 - loads
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineMissing(f"cannot import tensorrt_llm: {error}") from error
        return str(tensorrt_llm.__version__)

    def load(self, model: ModelFiles | None, options: BackendOptions, invocation: int) -> Any:
        """Load a model folder. Raises EngineRefused."""
        del invocation
        assert model is not None
        assert isinstance(options, TensorRtLlmOptions)
        return TensorRtLlmEngine(model, options)


class TensorRtLlmEngine(Engine):
    """One model of the LLM API."""

    def __init__(self, model: ModelFiles, options: TensorRtLlmOptions) -> None:
        import tensorrt_llm.llmapi

        self._api: Any = tensorrt_llm.llmapi
        if model.vocab_size is None:
            raise EngineRefused(f"the config of {model.path} names no vocab_size")
        self._vocab_size = model.vocab_size
        context = options.max_seq_len or min(_USUAL_TOKENS, model.context_length or _USUAL_TOKENS)
        self._options = msgspec.structs.replace(
            options,
            max_seq_len=context,
            max_num_tokens=options.max_num_tokens or context,
            max_tokens=options.max_tokens or context + _BLOCK,
        )
        self._context_tokens = context
        given = msgspec.to_builtins(self._options)
        cache = self._api.KvCacheConfig(
            enable_block_reuse=False, max_tokens=given.pop("max_tokens")
        )
        try:
            self._llm: Any = self._api.LLM(
                model=model.path,
                skip_tokenizer_init=True,
                max_batch_size=1,
                kv_cache_config=cache,
                **given,
            )
        except (ValueError, NotImplementedError) as error:
            raise EngineRefused(f"TensorRT-LLM could not load {model.path}: {error}") from error

    def facts(self) -> EngineFacts:
        """Describe the engine as it was asked for: it does not tell what it made of it."""
        parts = self._options.tensor_parallel_size
        return EngineFacts(
            vocab_size=self._vocab_size,
            context_tokens=self._context_tokens,
            options=msgspec.to_builtins(self._options),
            build="PyTorch backend of the LLM API",
            batch=1,
            batch_remedy="its sequences join and leave as they come, and are not in step",
            device="cuda:0" if parts == 1 else "gpu",
        )

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Stream one sequence; what arrives together is a chunk."""
        if request.depth:
            raise EngineRefused("TensorRT-LLM reads every prompt whole: no depth can be read ahead")
        (prompt,) = request.prompts
        sampling = self._api.SamplingParams(
            max_tokens=request.new_tokens, end_id=-1, ignore_eos=True, detokenize=False, top_k=1
        )
        known = 0
        timeline.start()
        for told in self._llm.generate_async(prompt, sampling, streaming=True):
            ids = list(told.outputs[0].token_ids)
            if len(ids) > known:
                timeline.chunk(ids[known:])
                known = len(ids)

    def close(self) -> None:
        """End its executor."""
        self._llm.shutdown()
