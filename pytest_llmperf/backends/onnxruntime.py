"""ONNX Runtime, through the generator of onnxruntime-genai."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from pytest_llmperf.backends.protocol import (
    BackendOptions,
    Engine,
    EngineFacts,
    EngineMissing,
    EngineRefused,
    ModelFormat,
    Request,
    TextTokens,
)
from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.models import ModelFiles
from pytest_llmperf.models.onnx_folder import SETTINGS

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline


class OnnxRuntimeOptions(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="onnxruntime")``, named as its session options are."""

    intra_op_num_threads: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Threads of one operation; None: the cores this process may use."""
    past_present_share_buffer: bool = True
    """Keep keys and values in one buffer of the request's whole length, allocated at its start."""

    def gpus(self) -> int | None:
        """It computes on the CPU."""
        return 0


class OnnxRuntime:
    """The onnxruntime backend, on the CPU."""

    name: ClassVar[str] = "onnxruntime"
    distribution: ClassVar[str | None] = "onnxruntime-genai"
    install: ClassVar[str] = "pip install 'pytest-llmperf[onnxruntime]'"
    model_format: ClassVar[ModelFormat | None] = "onnx"
    default_quantization: ClassVar[str | None] = "INT4"
    options_type: ClassVar[type[BackendOptions]] = OnnxRuntimeOptions

    clock = staticmethod(time.perf_counter_ns)

    def import_engine(self) -> str:
        """Import onnxruntime_genai. Raises EngineMissing."""
        try:
            import onnxruntime_genai
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineMissing(f"cannot import onnxruntime_genai: {error}") from error
        return str(onnxruntime_genai.__version__)

    def load(
        self, model: ModelFiles | None, options: BackendOptions, invocation: int
    ) -> OnnxRuntimeEngine:
        """Load a folder. Raises EngineRefused."""
        del invocation
        assert model is not None
        assert isinstance(options, OnnxRuntimeOptions)
        return OnnxRuntimeEngine(model, options)


class OnnxRuntimeEngine(Engine):
    """A decoder on the CPU; each request has a generator of its own."""

    def __init__(self, model: ModelFiles, options: OnnxRuntimeOptions) -> None:
        import onnxruntime_genai

        assert model.vocab_size is not None
        assert model.context_length is not None
        self._lib: Any = onnxruntime_genai
        self._files = model
        self._options = msgspec.structs.replace(
            options, intra_op_num_threads=options.intra_op_num_threads or usable_cores()
        )
        self._vocab_size, self._context_tokens = model.vocab_size, model.context_length
        with tempfile.TemporaryDirectory(prefix="llmperf-onnx-") as folder:
            _link_without_end(Path(model.path), Path(folder))
            try:
                self._model: Any = self._lib.Model(self._configured(folder))
            except Exception as error:
                raise EngineRefused(f"onnxruntime could not load {model.path}: {error}") from error

    def _configured(self, folder: str) -> Any:
        """The folder's settings with our threads, on the CPU."""
        config = self._lib.Config(folder)
        config.clear_providers()
        threads = {"intra_op_num_threads": self._options.intra_op_num_threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
        return config

    def facts(self) -> EngineFacts:
        """Describe the engine."""
        return EngineFacts(
            vocab_size=self._vocab_size,
            context_tokens=self._context_tokens,
            options=msgspec.to_builtins(self._options),
            build=f"onnxruntime {importlib.metadata.version('onnxruntime')}",
            threads=self._options.intra_op_num_threads,
            kv_element_bytes=2.0 if "F16" in self._files.type_mix else 4.0,
        )

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Read the prompt with ``append_tokens``, then generate a token at a time."""
        import numpy

        if request.depth and request.batch > 1:
            raise EngineRefused(
                "onnxruntime-genai reads the tokens of a batch in one piece: ask for a depth of 0, "
                "or for one sequence"
            )
        tokens = numpy.array(request.prompts, dtype=numpy.int32)
        generator = self._generator(request)
        if request.depth:
            generator.append_tokens(tokens[:, : request.depth])
        rest = tokens[:, request.depth :]
        arrived = timeline.step if request.batch > 1 else lambda ids: timeline.token(ids[0])
        timeline.start()
        generator.append_tokens(rest)
        for _ in range(request.new_tokens):
            generator.generate_next_token()
            arrived(generator.get_next_tokens().tolist())

    def tokenize(self, text: str) -> TextTokens:
        """With the tokenizer that lies beside the model. Raises EngineRefused."""
        path = Path(self._files.path) / "tokenizer.json"
        try:
            import tokenizers
        except ImportError as error:
            raise EngineRefused(
                f"{path} is read with tokenizers: pip install tokenizers"
            ) from error
        if not path.is_file():
            raise EngineRefused(f"{self._files.path} has no tokenizer.json")
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        added, plain = (
            tokenizer.encode("a", add_special_tokens=each).ids for each in (True, False)
        )
        return TextTokens(ids=ids, begin=added[0] if added[1:] == plain else None)

    def logits(self, tokens: list[int]) -> Any:
        """Of all tokens of a prompt, read in one piece."""
        import numpy

        generator = self._generator(Request(prompts=[tokens], new_tokens=0))
        generator.append_tokens(numpy.array([tokens], dtype=numpy.int32))
        rows = numpy.asarray(generator.get_output("logits"), dtype=numpy.float32)
        if rows.shape[1] != len(tokens):
            raise EngineRefused(
                f"{self._files.path} gives the logits of the last token alone: make it without "
                "pruning them"
            )
        return numpy.ascontiguousarray(rows[0, :, : self._vocab_size])

    def _generator(self, request: Request) -> Any:
        parameters = self._lib.GeneratorParams(self._model)
        parameters.set_search_options(
            do_sample=False,
            batch_size=request.batch,
            max_length=request.total_tokens,
            past_present_share_buffer=self._options.past_present_share_buffer,
        )
        return self._lib.Generator(self._model, parameters)

    def close(self) -> None:
        """Drop the model, and with it its memory."""
        del self._model


def _link_without_end(source: Path, target: Path) -> None:
    """The same folder, but no token ends a sequence; an overlay can only add to those that do."""
    for path in source.iterdir():
        if path.name != SETTINGS:
            (target / path.name).symlink_to(path)
    settings = json.loads((source / SETTINGS).read_text())
    settings["model"]["eos_token_id"] = []
    (target / SETTINGS).write_text(json.dumps(settings))
