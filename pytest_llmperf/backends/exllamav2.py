"""ExLlamaV2: its model and cache, driven token by token. Needs CUDA.

Written from the source of exllamav2 0.3.2 (``model.py``, ``cache.py``, ``config.py``); unproven:
no machine that could import it has run it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from pytest_llmperf.backends.device import AllocatorPeak, reset_torch_peaks, torch_device_peaks
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

_CACHE_BYTES = 2.0  # ExLlamaV2Cache keeps half precision


class ExLlamaV2Options(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="exllamav2")``, named as ``ExLlamaV2Config`` does."""

    max_seq_len: Annotated[int, msgspec.Meta(ge=1)] = 2048
    """Context of a sequence in tokens."""
    max_batch_size: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Sequences decoded at once."""
    max_input_len: Annotated[int, msgspec.Meta(ge=1)] = 2048
    """Prompt tokens computed at once."""


class ExLlamaV2:
    """The ExLlamaV2 backend."""

    name: ClassVar[str] = "exllamav2"
    distribution: ClassVar[str | None] = "exllamav2"
    install: ClassVar[str] = (
        "pip install exllamav2, in an environment of its own with torch for CUDA; then "
        "--llmperf-python exllamav2=PATH, the path of its python"
    )
    model_format: ClassVar[ModelFormat | None] = "hf"
    default_quantization: ClassVar[str | None] = "BF16"
    options_type: ClassVar[type[BackendOptions]] = ExLlamaV2Options

    clock = staticmethod(time.perf_counter_ns)

    def import_engine(self) -> str:
        """Import exllamav2, which compiles or loads its kernels. Raises EngineMissing."""
        try:
            import exllamav2
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineMissing(f"cannot import exllamav2: {error}") from error
        return str(exllamav2.__version__)

    def load(self, model: ModelFiles | None, options: BackendOptions, invocation: int) -> Any:
        """Load a model folder onto the GPUs, filling one after another. Raises EngineRefused."""
        del invocation
        assert model is not None
        assert isinstance(options, ExLlamaV2Options)
        return ExLlamaV2Engine(model, options)


class ExLlamaV2Engine(Engine):
    """One model with one cache."""

    def __init__(self, model: ModelFiles, options: ExLlamaV2Options) -> None:
        import exllamav2
        import torch

        if not torch.cuda.is_available():
            raise EngineRefused("ExLlamaV2 needs a GPU that torch can use: torch sees none")
        self._torch: Any = torch
        self._options = options
        self._config: Any = exllamav2.ExLlamaV2Config(model.path)
        self._config.max_seq_len = options.max_seq_len
        self._config.max_batch_size = options.max_batch_size
        self._config.max_input_len = min(options.max_input_len, options.max_seq_len)
        self._model: Any = exllamav2.ExLlamaV2(self._config)
        self._cache: Any = exllamav2.ExLlamaV2Cache(
            self._model, batch_size=options.max_batch_size, lazy=True
        )
        self._model.load_autosplit(self._cache)

    def facts(self) -> EngineFacts:
        """Describe the engine."""
        in_force = msgspec.structs.replace(
            self._options, max_input_len=int(self._config.max_input_len)
        )
        return EngineFacts(
            vocab_size=int(self._config.vocab_size),
            context_tokens=int(self._cache.max_seq_len),
            options=msgspec.to_builtins(in_force),
            build=f"torch {self._torch.__version__}",
            batch=int(self._cache.batch_size),
            batch_remedy="load with max_batch_size=…",
            device="cuda:0" if self._torch.cuda.device_count() == 1 else "gpu",
            kv_element_bytes=_CACHE_BYTES,
        )

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Read the prompts, then decode one token of each sequence at a time."""
        ids = self._torch.tensor(request.prompts, dtype=self._torch.long)
        depth = request.depth
        arrived = timeline.step if request.batch > 1 else lambda tokens: timeline.token(tokens[0])
        self._cache.current_seq_len = 0
        if depth:
            self._model.forward(ids[:, :depth], self._cache, preprocess_only=True)
        self._torch.cuda.synchronize()
        timeline.start()
        tokens = self._next(ids[:, depth:])
        arrived(tokens)
        for _ in range(request.new_tokens - 1):
            tokens = self._next(self._torch.tensor(tokens, dtype=self._torch.long).unsqueeze(1))
            arrived(tokens)

    def _next(self, ids: Any) -> list[int]:
        """The likeliest token after these, of each sequence, on the host."""
        logits = self._model.forward(ids, self._cache, last_id_only=True)
        likeliest = logits[:, -1, : self._config.vocab_size].argmax(dim=-1)
        return [int(token) for token in likeliest.tolist()]

    def device_peaks(self) -> list[AllocatorPeak]:
        """Peaks of torch's allocator on each GPU."""
        return torch_device_peaks(self._torch)

    def reset_device_peaks(self) -> None:
        """Start new peaks of torch's allocator."""
        reset_torch_peaks(self._torch)

    def close(self) -> None:
        """Unload the model and drop its cache."""
        self._model.unload()
        del self._cache
