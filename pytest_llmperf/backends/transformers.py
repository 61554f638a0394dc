"""Hugging Face transformers: ``generate`` with a streamer that takes the instant of each token."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
from pytest_llmperf.backends.transformers_packing import (
    FOUR_BIT,
    Packing,
    quantization_config,
    weight_element_bytes,
)
from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.models import ModelFiles

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline


_ALLOWED = re.compile(r"(?P<device>\d+|cpu)=(?P<size>\d+(\.\d+)?(GiB|MiB|GB|MB))")


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
    quantize: Packing | None = None
    """Pack the weights of linear layers while they are loaded; None: as they are in the file."""
    compute_dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """What ``nf4`` and ``fp4`` are multiplied in; None: ``dtype``, bfloat16 if that is auto."""


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


class TransformersEngine(Engine):
    """A causal language model on one device."""

    def __init__(self, model: ModelFiles, options: TransformersOptions) -> None:
        import torch
        import transformers

        self._torch: Any = torch
        torch.set_num_threads(options.num_threads or usable_cores())
        self._device = _choose_device(torch, options.device)
        shared = _sharing(options)
        packed = _packed(torch, options, self._device)
        # Tensor subclasses of quanto cannot be used under inference_mode.
        is_quanto = (options.quantize or "").startswith("quanto")
        self._without_gradients: Any = torch.no_grad if is_quanto else torch.inference_mode
        try:
            loaded = transformers.AutoModelForCausalLM.from_pretrained(
                model.path,
                dtype=options.dtype,
                attn_implementation=options.attn_implementation,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                **(packed | shared),
            )
        except (ValueError, ImportError) as error:
            raise EngineRefused(f"transformers could not load {model.path}: {error}") from error
        self._model: Any = (loaded if packed or shared else loaded.to(self._device)).eval()
        if shared:
            self._device = self._model.device
        self._options = options
        self._generation: Any = transformers.GenerationConfig(
            do_sample=False, num_beams=1, use_cache=True, eos_token_id=None, pad_token_id=0
        )
        self._model.generation_config = self._generation

    def facts(self) -> EngineFacts:
        """Describe the engine, with the device, element type and attention really in use."""
        config = self._model.config
        in_force = msgspec.structs.replace(
            self._options,
            device=str(self._device),
            num_threads=int(self._torch.get_num_threads()),
            attn_implementation=str(config._attn_implementation),
        )
        options = msgspec.to_builtins(in_force)
        options["dtype"] = str(self._model.dtype).removeprefix("torch.")
        return EngineFacts(
            vocab_size=int(self._model.get_input_embeddings().weight.shape[0]),
            context_tokens=int(getattr(config, "max_position_embeddings", None) or 2**31),
            options=options,
            build=f"torch {self._torch.__version__}",
            device=self._where(),
            threads=int(self._torch.get_num_threads()) if self._device.type == "cpu" else None,
            weight_element_bytes=self._weight_element_bytes(),
            kv_element_bytes=float(self._model.dtype.itemsize),
        )

    def _weight_element_bytes(self) -> float | None:
        """None: packed in the file already, which tells more."""
        if self._options.quantize is not None:
            return weight_element_bytes(self._model)
        if getattr(self._model.config, "quantization_config", None) is not None:
            return None
        return float(self._model.dtype.itemsize)

    def _where(self) -> str:
        """Where the layers are: one device, or ``cpu and gpu``."""
        places = {str(each) for each in getattr(self._model, "hf_device_map", {}).values()}
        if "disk" in places:
            raise EngineRefused(
                f"max_memory={self._options.max_memory} leaves layers to the disk, which nobody "
                "would time: allow more"
            )
        return "cpu and gpu" if "cpu" in places and len(places) > 1 else str(self._device)

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Run ``generate``; the streamer receives a step after generate's own copy to the host."""
        torch = self._torch
        with self._without_gradients():
            inputs = torch.tensor(request.prompts, dtype=torch.long, device=self._device)
            mask = torch.ones_like(inputs)
            kept = self._read_ahead(inputs[:, : request.depth]) if request.depth else {}
            streamer = _TimelineStreamer(timeline)
            self._settle()
            timeline.start()
            self._model.generate(
                inputs,
                attention_mask=mask,
                max_new_tokens=request.new_tokens,
                streamer=streamer,
                **kept,
            )

    def _read_ahead(self, inputs: Any) -> dict[str, Any]:
        """The cache after these tokens, as an argument of ``generate``."""
        import transformers

        cache = transformers.DynamicCache(config=self._model.config)
        self._model(inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return {"past_key_values": cache}

    def _settle(self) -> None:
        """Wait until the device has done everything that was asked before."""
        if self._device.type in ("cuda", "mps"):
            getattr(self._torch, self._device.type).synchronize()

    def device_peaks(self) -> list[AllocatorPeak]:
        """Peaks of torch's allocator on each GPU."""
        return torch_device_peaks(self._torch)

    def reset_device_peaks(self) -> None:
        """Start new peaks of torch's allocator."""
        reset_torch_peaks(self._torch)

    def close(self) -> None:
        """Drop the model, and with it its memory."""
        del self._model


class _TimelineStreamer:
    """A generation streamer that stamps tokens. Its first ``put`` is the prompt."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """Take one step's tokens, a host tensor of shape (batch,)."""
        if not self._prompt_seen:
            self._prompt_seen = True
        elif len(value) == 1:
            self._timeline.token(int(value[0]))
        else:
            self._timeline.step(value.tolist())

    def end(self) -> None:
        """Nothing is left to do when generation ends."""


def _packed(torch: Any, options: TransformersOptions, device: Any) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for weights that are packed. Raises EngineRefused."""
    if options.quantize is None:
        if options.compute_dtype is not None:
            raise EngineRefused("compute_dtype needs quantize='nf4' or 'fp4'")
        return {}
    if options.compute_dtype is not None and options.quantize not in FOUR_BIT:
        raise EngineRefused(f"quantize={options.quantize} has no compute_dtype: leave it out")
    usual = "bfloat16" if options.dtype == "auto" else options.dtype
    compute_dtype = getattr(torch, options.compute_dtype or usual)
    return {
        "quantization_config": quantization_config(options.quantize, compute_dtype),
        "device_map": {"": device},
    }


def _sharing(options: TransformersOptions) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for several devices. Raises EngineRefused."""
    if options.device_map is None:
        if options.max_memory is not None:
            raise EngineRefused("max_memory needs a device_map: give device_map='auto' too")
        return {}
    if options.device != "auto":
        raise EngineRefused(
            f"device={options.device} and device_map={options.device_map} contradict each other: "
            "leave one out"
        )
    try:
        allowed = read_max_memory(options.max_memory) if options.max_memory else None
    except ValueError as error:
        raise EngineRefused(str(error)) from None
    return {"device_map": options.device_map, "max_memory": allowed}


def read_max_memory(text: str) -> dict[int | str, str]:
    """``0=6GiB, cpu=16GiB`` as accelerate takes it. Raises ValueError."""
    found: dict[int | str, str] = {}
    for part in text.split(","):
        match = _ALLOWED.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"max_memory {part.strip()!r} is not of the form 0=6GiB, cpu=16GiB")
        device = match["device"]
        found[int(device) if device.isdecimal() else device] = match["size"]
    return found


def _choose_device(torch: Any, wanted: str) -> Any:
    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
