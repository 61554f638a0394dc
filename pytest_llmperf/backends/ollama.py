"""Ollama, through its native interface: ``/api/generate`` with a stream of JSON lines.

Unproven: written from the published description and tried against a stand-in made from it, never
against a real ollama. Sources: docs/api.md in github.com/ollama/ollama (``raw``, ``options``,
``prompt_eval_count``, ``eval_count``, an empty prompt loads, ``keep_alive: 0`` unloads);
``GenerateResponse`` in ollama/_types.py of github.com/ollama/ollama-python (``logprobs``, one for
each token).

It takes text only, so a prompt is made of words that are one token each: the server's own count
says whether they are, and decides whether a request counts. It cannot be told to go on past an end
of text; a request that ends early has too few tokens, and is INVALID.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from pytest_llmperf.backends.openai_options import check_url
from pytest_llmperf.backends.protocol import (
    BackendOptions,
    Engine,
    EngineEnded,
    EngineFacts,
    EngineMissing,
    EngineRefused,
    EngineTimings,
    ModelFormat,
    Request,
)
from pytest_llmperf.backends.server_api import (
    MET_CAVEAT,
    NoAnswer,
    ServerApi,
    held_back,
    import_httpx,
)
from pytest_llmperf.backends.timeline import UNKNOWN
from pytest_llmperf.models import ModelFiles

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline

_GENERATE = "/api/generate"
_USUAL_URL = "http://127.0.0.1:11434"
_TEXT = """
time year people way day man thing woman life child world school state family student
group country problem hand part place case week company system program question work
government number night point home water room mother area money story fact month lot
right study book eye job word business issue side kind head house service friend father
power hour game line end member law car city community name
"""
_WORDS = _TEXT.split()
_GRACE_S = 1.5
"""How long ollama may take to unload; the worker itself has 2 s to leave."""
_TRIALS = (8, 24)
"""Words of the prompts that show how many tokens stand before them."""


class OllamaOptions(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="ollama")``."""

    model: str | None = None
    """Name and tag, as ``ollama list`` shows them; None: the only one that it has."""
    base_url: str = _USUAL_URL
    context_tokens: Annotated[int, msgspec.Meta(ge=1)] = 2048
    """Context in tokens (its ``num_ctx``)."""
    threads: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Its ``num_thread``; None: as it chooses."""

    def __post_init__(self) -> None:
        check_url(self.base_url)


class Ollama:
    """The backend of an ollama that runs already."""

    name: ClassVar[str] = "ollama"
    distribution: ClassVar[str | None] = "httpx"
    install: ClassVar[str] = "pip install 'pytest-llmperf[ollama]'"
    model_format: ClassVar[ModelFormat | None] = None
    default_quantization: ClassVar[str | None] = None
    options_type: ClassVar[type[BackendOptions]] = OllamaOptions

    clock = staticmethod(time.perf_counter_ns)

    def import_engine(self) -> str:
        """Import httpx. Raises EngineMissing."""
        return import_httpx()

    def load(
        self, model: ModelFiles | None, options: BackendOptions, invocation: int
    ) -> OllamaEngine:
        """Have ollama load a model that it has. Raises EngineMissing, EngineRefused."""
        del model, invocation
        assert isinstance(options, OllamaOptions)
        return OllamaEngine(options)


class Line(msgspec.Struct):
    """One line of the stream; durations are in nanoseconds."""

    logprobs: list[msgspec.Raw] | None = None
    """One for each token of this line."""
    done: bool = False
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    error: str | None = None


class Name(msgspec.Struct):
    """A model that ollama has."""

    name: str


class Names(msgspec.Struct):
    """All of them."""

    models: list[Name]


class Version(msgspec.Struct):
    """Ollama's own."""

    version: str


class OllamaEngine(Engine):
    """One model of a running ollama."""

    def __init__(self, options: OllamaOptions) -> None:
        self._options = options
        self._api = ServerApi(options.base_url.rstrip("/"))
        self._timings: EngineTimings | None = None
        self._uncounted: str | None = None
        self._before = 0
        try:
            self._version = self._api.get("/api/version", Version).version
            self._model = self._choose()
        except NoAnswer as error:
            if options.base_url == _USUAL_URL:
                raise EngineMissing(f"{error}; start it with `ollama serve`") from None
            raise EngineRefused(f"{error}; is base_url that of an ollama?") from None
        for _ in self._api.post(_GENERATE, {"model": self._model, **self._settings}).lines():
            pass  # an empty prompt loads the model

    def _choose(self) -> str:
        names = sorted(each.name for each in self._api.get("/api/tags", Names).models)
        wanted = self._options.model
        if wanted is None and len(names) == 1:
            return names[0]
        for name in (wanted, f"{wanted}:latest"):
            if name in names:
                return str(name)
        told = "" if wanted is None else f"it has no {wanted!r}; "
        raise EngineRefused(
            f"ollama has {len(names)} models: {told}give model=… as one of {', '.join(names[:20])}"
        )

    @property
    def _settings(self) -> dict[str, object]:
        options: dict[str, object] = {"num_ctx": self._options.context_tokens}
        if self._options.threads is not None:
            options["num_thread"] = self._options.threads
        return {"options": options}

    def facts(self) -> EngineFacts:
        """Describe ollama; two short requests show what it makes of our words."""
        self._uncounted = self._try()
        in_force = msgspec.structs.replace(self._options, model=self._model)
        return EngineFacts(
            vocab_size=len(_WORDS),
            context_tokens=self._options.context_tokens,
            options=msgspec.to_builtins(in_force),
            build="through httpx; token ids stand for words",
            batch=1,
            batch_remedy="a server is measured with one request at a time",
            device="server",
            version=f"ollama {self._version}",
            server="met",
            caveats=[MET_CAVEAT],
        )

    def _try(self) -> str | None:
        """Learn how many tokens stand before the words; why that cannot be, else None."""
        before = set()
        for words in _TRIALS:
            last = Line()
            counted = 0
            for lines in self._api.post(_GENERATE, self._body(range(words), 2)).lines():
                for line in map(self._read, lines):
                    counted += len(line.logprobs or ())
                    last = line
            if not counted:
                return "its stream has no logprobs, by which alone its tokens can be counted"
            if last.prompt_eval_count is None:
                return "it does not say how many prompt tokens it read"
            before.add(last.prompt_eval_count - words)
        if len(before) != 1:
            return "its tokenizer does not make one token of each of our words"
        (self._before,) = before
        return None

    def _body(self, ids: Sequence[int], new_tokens: int) -> dict[str, object]:
        settings = self._settings["options"]
        assert isinstance(settings, dict)
        greedy = {"temperature": 0, "repeat_penalty": 1.0, "num_predict": new_tokens}
        return {
            "model": self._model,
            "prompt": " ".join(_WORDS[each] for each in ids),
            "raw": True,
            "stream": True,
            "logprobs": True,
            "options": settings | greedy,
        }

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Stream one completion; a line of several tokens is a chunk."""
        self._timings = None
        if request.depth:
            raise EngineRefused("ollama reads every prompt whole: it cannot start at a depth")
        (prompt,) = request.prompts
        if self._uncounted is not None or len(prompt) <= self._before:
            timeline.start()
            timeline.reject(
                self._uncounted or f"{self._before} tokens stand before every prompt: ask for more"
            )
            return
        stream = self._api.post(_GENERATE, self._body(prompt[self._before :], request.new_tokens))
        last = Line()
        try:
            self._api.status("/api/version")  # so that the connection stands
            timeline.start()
            for lines in stream.lines():
                parts = [self._read(line) for line in lines]
                tokens = sum(len(part.logprobs or ()) for part in parts)
                if tokens:
                    timeline.chunk([UNKNOWN] * tokens)
                last = parts[-1] if parts else last
        except NoAnswer as error:
            raise EngineEnded(str(error)) from None
        self._finish(last, len(prompt), timeline)

    def _finish(self, last: Line, prompt_tokens: int, timeline: Timeline) -> None:
        """Hold the stream against ollama's own counts, and keep its own times."""
        for what, ours, told in (
            ("prompt tokens sent", prompt_tokens, last.prompt_eval_count),
            ("tokens streamed", timeline.count, last.eval_count),
        ):
            if told != ours:
                timeline.reject(f"{ours} {what}, but ollama counts {told}")
        trouble = held_back(timeline.instants_ns, timeline.chunk_tokens)
        if trouble is not None:
            timeline.reject(trouble)
        if last.prompt_eval_duration is not None and last.eval_duration is not None:
            prefill_s, decode_s = last.prompt_eval_duration / 1e9, last.eval_duration / 1e9
            self._timings = EngineTimings(
                total_s=prefill_s + decode_s, prefill_s=prefill_s, decode_s=decode_s
            )

    def _read(self, line: bytes) -> Line:
        try:
            read = msgspec.json.decode(line, type=Line)
        except msgspec.DecodeError as error:
            told = self._api.redacted(str(error))
            raise EngineEnded(f"ollama's stream holds what is no answer: {told}") from None
        if read.error is not None:
            raise EngineEnded(f"ollama broke off: {self._api.redacted(read.error)}")
        return read

    def timings(self) -> EngineTimings | None:
        """Ollama's own clock over the last request."""
        return self._timings

    def close(self) -> None:
        """Have ollama unload the model; where it does not, it does so by itself after a while."""
        unload = {"model": self._model, "keep_alive": 0}
        with contextlib.suppress(EngineEnded, EngineRefused):
            for _ in self._api.post(_GENERATE, unload, _GRACE_S).lines():
                pass
        self._api.close()
