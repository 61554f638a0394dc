"""Any server with OpenAI's completions interface, as one stream of requests sees it.

The worker starts the server, or uses one that runs already. Prompts are token ids and tokens are
counted as the server itself counts them (openai_stream.py); what cannot be counted so is INVALID.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from pytest_llmperf.backends.known_servers import KNOWN, KnownServer, fill, require_modules
from pytest_llmperf.backends.openai_options import USUAL_CONTEXT, OpenAIOptions
from pytest_llmperf.backends.openai_scores import log_probs, tokenize
from pytest_llmperf.backends.openai_stream import Tally
from pytest_llmperf.backends.protocol import (
    BackendOptions,
    Engine,
    EngineEnded,
    EngineFacts,
    EngineRefused,
    EngineTimings,
    LogProbs,
    ModelFormat,
    Request,
    TextTokens,
)
from pytest_llmperf.backends.server_api import (
    MET_CAVEAT,
    NoAnswer,
    ServerApi,
    ServerRefused,
    event_data,
    held_back,
    import_httpx,
)
from pytest_llmperf.backends.server_process import (
    HOST,
    SHORT_WHILE_S,
    ServerProcess,
    free_port,
)
from pytest_llmperf.backends.vllm_cache import cache_bytes
from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.models import ModelFiles

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline

_COMPLETIONS = "/v1/completions"
_WANTS_A_KEY = (401, 403)
_VLLM_BLOCK = 128
"""Tokens of a block on a CPU; on a GPU it has smaller ones, which fit in."""
_TRIAL_PROMPT, _TRIAL_TOKENS = 8, 4
_NO_DEPTH = "a server reads every prompt whole: tokens of depth cannot be read before the clock"


class OpenAI:
    """The backend of servers with OpenAI's completions interface."""

    name: ClassVar[str] = "openai"
    distribution: ClassVar[str | None] = "httpx"
    install: ClassVar[str] = "pip install 'pytest-llmperf[openai]'"
    model_format: ClassVar[ModelFormat | None] = None
    default_quantization: ClassVar[str | None] = None
    options_type: ClassVar[type[BackendOptions]] = OpenAIOptions

    clock = staticmethod(time.perf_counter_ns)

    def import_engine(self) -> str:
        """Import httpx. Raises EngineMissing."""
        return import_httpx()

    def load(
        self, model: ModelFiles | None, options: BackendOptions, invocation: int
    ) -> OpenAIEngine:
        """Start a server, or find one. Raises EngineMissing, EngineRefused, EngineEnded."""
        del invocation
        assert isinstance(options, OpenAIOptions)
        return OpenAIEngine(model, options)


class ModelCard(msgspec.Struct):
    """What ``/v1/models`` says of a model."""

    id: str
    max_model_len: int | None = None
    """vLLM's context."""
    meta: dict[str, Any] | None = None
    """llama.cpp's facts: ``n_ctx``, ``n_vocab``."""


class ModelCards(msgspec.Struct):
    """Everything that a server serves."""

    data: list[ModelCard]


class OpenAIEngine(Engine):
    """One model of one server."""

    def __init__(self, model: ModelFiles | None, options: OpenAIOptions) -> None:
        self._options, self._files = options, model
        self._process: ServerProcess | None = None
        self._timings: EngineTimings | None = None
        self._uncounted: str | None = None
        if options.base_url is not None:
            self._api = ServerApi(bare(options.base_url), options.api_key_env)
            self._find()
        else:
            self._api = self._start()
        try:
            self._card = self._choose_model()
        except NoAnswer as error:
            raise EngineRefused(f"{error}; is it a server like OpenAI's?{self._key_hint}") from None

    def _start(self) -> ServerApi:
        options, port = self._options, free_port()
        known = KNOWN[options.server]
        python = options.python or sys.executable
        if options.command is None:
            require_modules(known, python)
        values = {
            "model": "" if self._files is None else self._files.path,
            "host": HOST,
            "port": port,
            "context_tokens": self._context_to_ask_for,
            "threads": options.threads or usable_cores(),
            "python": python,
        }
        template = f"{options.command or known.command + self._cache(known)} {options.arguments}"
        if "{model}" in template and self._files is None:
            raise EngineRefused("command holds {model}: say command_loads='gguf' or 'hf'")
        api = ServerApi(f"http://{HOST}:{port}")
        command = fill(template, values)
        name = command[0].rpartition("/")[2] if options.command else options.server
        self._process = ServerProcess(name, command, known.remedy, hidden=options.api_key_env)
        self._process.wait_until_ready(lambda: _is_ready(api), options.start_timeout_s)
        return api

    def _cache(self, known: KnownServer) -> str:
        """The words that size its KV cache for one sequence in two-byte numbers, if they can."""
        if known.cache_option is None or self._files is None:
            return ""
        if any(each in self._options.arguments for each in known.sizes_cache):
            return ""
        try:
            size = cache_bytes(
                Path(self._files.path),
                context_tokens=self._context_to_ask_for,
                block_tokens=_VLLM_BLOCK,
                element_bytes=2.0,
            )
        except EngineRefused as error:
            print(f"cache: as vLLM chooses; {error}", file=sys.stderr, flush=True)
            return ""
        return f" {known.cache_option} {size}"

    def _find(self) -> None:
        deadline = time.monotonic() + self._options.start_timeout_s
        try:
            while self._api.status("/v1/models") == 503:  # it loads its model
                if time.monotonic() >= deadline:
                    raise EngineRefused(f"the server at {self._api.url} does not become ready")
                time.sleep(0.1)
        except NoAnswer as error:
            raise EngineRefused(f"{error}; is base_url right?") from None

    def _choose_model(self) -> ModelCard:
        cards = {card.id: card for card in self._api.get("/v1/models", ModelCards).data}
        wanted = self._options.model
        if wanted is None and len(cards) == 1:
            return next(iter(cards.values()))
        if wanted not in cards:
            told = "" if wanted is None else f"it has no {wanted!r}; "
            raise EngineRefused(
                f"the server at {self._api.url} has {len(cards)} models: {told}give model=… as one "
                f"of {', '.join(sorted(cards)[:20])}"
            )
        return cards[wanted]

    @property
    def _key_hint(self) -> str:
        if self._process is not None:
            return " one that is started here must want no key: api_key_env=NAME hides its variable"
        return "" if self._options.api_key_env else " one that wants a key takes api_key_env=NAME"

    def facts(self) -> EngineFacts:
        """Describe the server; a short request shows what its stream tells."""
        options, met = self._options, self._process is None
        vocab_size, context = self._sizes()
        caveats = self._try(vocab_size)
        in_force = msgspec.structs.replace(
            options,
            model=self._card.id,
            context_tokens=context,
            vocab_size=vocab_size,
            threads=None if met else options.threads or usable_cores(),
        )
        if met:
            caveats.append(MET_CAVEAT)
        return EngineFacts(
            vocab_size=vocab_size,
            context_tokens=context,
            options=msgspec.to_builtins(in_force),
            build=f"through httpx {OpenAI().import_engine()}",
            batch=1,
            batch_remedy="a server is measured with one request at a time",
            reserved_tokens=1,
            device="server" if met else device_told(options.device, has_gpu=bool(detect().gpus)),
            version=self._version(),
            server="met" if met else "started",
            caveats=caveats,
        )

    @property
    def _context_to_ask_for(self) -> int:
        made_for = None if self._files is None else self._files.context_length
        return self._options.context_tokens or min(USUAL_CONTEXT, made_for or USUAL_CONTEXT)

    def _sizes(self) -> tuple[int, int]:
        """Number of token ids, and context in tokens. Raises EngineRefused."""
        meta, options, files = self._card.meta or {}, self._options, self._files
        asked = options.context_tokens if self._process is None else self._context_to_ask_for
        context = self._card.max_model_len or meta.get("n_ctx") or asked
        of_files = None if files is None else files.vocab_size
        vocab_size = options.vocab_size or of_files or meta.get("n_vocab")
        for name, value in (("vocab_size", vocab_size), ("context_tokens", context)):
            if value is None:
                raise EngineRefused(f"the server does not tell its {name}: give {name}=…")
        assert vocab_size is not None
        assert context is not None
        return int(vocab_size), int(context)

    def _version(self) -> str:
        """The server's name and version, as far as it tells."""
        name = "server" if self._process is None else self._process.name
        for path, field in (("/version", "version"), ("/props", "build_info")):
            try:
                told = self._api.get(path, dict[str, Any]).get(field)
            except NoAnswer:
                continue
            if told:
                return f"{name} {told}"
        package = KNOWN[self._options.server].distribution
        started_in_ours = self._options.command is None and self._options.python is None
        if self._process is not None and started_in_ours and package is not None:
            return f"{name} {importlib.metadata.version(package)}"
        return f"{name} of unknown version"

    def _try(self, vocab_size: int) -> list[str]:
        """Send a short request; what its answer does not tell is said, or forbids counting."""
        prompt = [each % vocab_size for each in range(_TRIAL_PROMPT)]
        tally = Tally(self._api.redacted)
        try:
            for lines in self._api.post(_COMPLETIONS, self._body(prompt, _TRIAL_TOKENS)).lines():
                tally.take(event_data(lines))
        except ServerRefused as error:
            if error.status in _WANTS_A_KEY:
                raise EngineRefused(f"{error};{self._key_hint}") from None
            if error.status not in KNOWN[self._options.server].wrong_request:
                raise EngineEnded(str(error)) from None
            self._uncounted = f"the server takes no prompt of token ids as we send it: {error}"
            return []
        if tally.counted_by is None:
            self._uncounted = tally.trouble(len(prompt))
            return []
        caveats = []
        if tally.usage is None:
            caveats.append("the server sends no usage: its counts are those of the stream alone")
        if tally.cached_tokens is None:
            caveats.append("the server does not say whether a prefix cache spared it prompt tokens")
        return caveats

    def _body(self, prompt: list[int], new_tokens: int) -> dict[str, object]:
        """What any of the known servers understands; the others ignore what they do not know."""
        return {
            "model": self._card.id,
            "prompt": prompt,
            "max_tokens": new_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "ignore_eos": True,
            "return_token_ids": True,  # vLLM
            "cache_prompt": False,  # llama.cpp, as the two that follow
            "timings_per_token": True,
            "verbose": True,
        }

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Stream one completion; a part of several tokens is a chunk."""
        self._timings = None
        if request.depth:
            raise EngineRefused(_NO_DEPTH)
        (prompt,) = request.prompts
        if self._uncounted is not None:
            timeline.start()
            timeline.reject(self._uncounted)
            return
        stream = self._api.post(_COMPLETIONS, self._body(prompt, request.new_tokens))
        tally = Tally(self._api.redacted)
        try:
            self._api.status("/v1/models")  # so that the connection stands before the clock runs
            timeline.start()
            for lines in stream.lines():
                tokens = tally.take(event_data(lines))
                if tokens:
                    timeline.chunk(tokens)
            if not tally.is_done:
                raise EngineEnded(f"the stream of {self._api.url} ended before its end")
        except (NoAnswer, EngineEnded) as error:
            if self._process is not None:
                self._process.check(SHORT_WHILE_S)
            raise EngineEnded(str(error)) from None
        self._timings = tally.own_times
        trouble = tally.trouble(len(prompt)) or held_back(
            timeline.instants_ns, timeline.chunk_tokens
        )
        if trouble is not None:
            timeline.reject(trouble)

    def tokenize(self, text: str) -> TextTokens:
        """With the server's own tokenizer. Raises EngineRefused."""
        return tokenize(self._api, self._card.id, text)

    def logits(self, tokens: list[int]) -> LogProbs:
        """What the server tells of a prompt. Raises EngineRefused where it tells nothing."""
        return log_probs(self._api, _COMPLETIONS, self._card.id, tokens)

    def timings(self) -> EngineTimings | None:
        """The server's own clock over the last request."""
        return self._timings

    def close(self) -> None:
        """End the server if it was started here."""
        self._api.close()
        if self._process is not None:
            self._process.end()


def bare(url: str) -> str:
    """The address without the ``/v1`` that clients of OpenAI's add."""
    return url.rstrip("/").removesuffix("/v1")


def _is_ready(api: ServerApi) -> bool:
    """Whether it serves: its page of health says so, or it has none and lists its models."""
    try:
        status = api.status("/health")
        return status == 200 or (status == 404 and api.status("/v1/models") == 200)
    except NoAnswer:
        return False


def device_told(wanted: Literal["auto", "cpu", "gpu"], *, has_gpu: bool) -> str:
    """Where a server that is started computes: it does not tell, and on a GPU it need not."""
    if wanted != "auto":
        return wanted
    return "server" if has_gpu else "cpu"
