"""What must an engine's adapter offer so that a worker can load and time it?"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol

import msgspec

from pytest_llmperf.backends.device import AllocatorPeak
from pytest_llmperf.backends.timeline import Clock, Timeline
from pytest_llmperf.models import Format, ModelFiles

ModelFormat = Format
OptionValue = str | int | float | bool | None


class EngineMissing(Exception):
    """The engine's package cannot be imported here."""


class EngineRefused(Exception):
    """The engine, or its adapter, will not do it: a bad option, or too long a request."""


class EngineEnded(Exception):
    """A process of the engine beside the worker's own ended, or never became ready."""


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded engine says of itself."""

    vocab_size: int
    """Number of token ids that a prompt may contain."""
    context_tokens: int
    """Tokens of context, prompt and generated, that one sequence may take together."""
    options: dict[str, OptionValue]
    """Every option in force, defaults resolved."""
    build: str = ""
    """What the engine says it was built with, for the reader of a report."""
    batch: int | None = None
    """Sequences that it can decode at once; None: as many as fit into memory."""
    batch_remedy: str = ""
    """What to ask for to get more of them."""
    device: str = "cpu"
    """Where the weights are: ``cpu``, ``cuda:0``, ``mps``, or ``gpu`` where it is not said,
    ``server`` where not even that is."""
    threads: int | None = None
    """Threads that compute on the CPU."""
    weight_element_bytes: float | None = None
    """Size of a weight in memory where all are held in one type; None: as in the files."""
    kv_element_bytes: float | None = None
    """Size of one number in the KV cache; 0: there is none; None: not known."""
    version: str = ""
    """Version of what computes, where it is not the package that was imported."""
    server: Literal["started", "met"] | None = None
    """A server computes: ``started`` by the worker, or ``met`` where somebody else runs it. None:
    the worker itself."""
    compile_s: float | None = None
    """Seconds of the load that went by compiling, and running once what was compiled; None:
    nothing was, or it is not told."""
    not_prefill: str = ""
    """Why a request computes something else than reading its prompt; empty: it reads it."""
    caveats: list[str] = []
    """What the reader should know of its numbers."""
    random_caveats: list[str] = []
    """And where prompts are random tokens."""
    queue: bool = False
    """Whether it takes a queue: more sequences than ``batch``, each of its own length."""
    reserved_tokens: int = 0
    """Of the context, what no text can fill: some generate a token to whatever they read."""

    @property
    def readable_tokens(self) -> int:
        """The longest text that it reads in one piece."""
        return self.context_tokens - self.reserved_tokens


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What one sample asks of an engine: a batch of sequences in step, or a queue of them."""

    prompts: list[list[int]]
    """Token ids, (batch, depth + prompt tokens); all sequences are equally long."""
    new_tokens: int
    """Tokens to generate for each sequence; of a queue, for its longest."""
    depth: int = 0
    """So many of the first tokens of each sequence are read before the clock starts."""
    lengths: list[int] = []
    """Tokens to generate for each sequence of a queue; empty: all alike, and in step."""

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return len(self.prompts)

    @property
    def total_tokens(self) -> int:
        """Tokens of context that one sequence takes."""
        return len(self.prompts[0]) + self.new_tokens

    @property
    def arrivals(self) -> int:
        """Instants that there may be at most: of a queue one for each token."""
        return sum(self.lengths) or self.new_tokens


class EngineTimings(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine's own clock says of the last request, in seconds."""

    total_s: float
    """t_0 to t_n, without the time between the engine's calls."""
    prefill_s: float | None = None
    """None where the engine does not tell the phases apart."""
    decode_s: float | None = None


class BackendOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the options that a backend takes; a subclass lists them with their defaults."""

    def model_format(self, usual: ModelFormat | None) -> ModelFormat | None:
        """What has to be found, or made, for these options; ``usual``: the backend's own."""
        return usual

    def default_quantization(self, usual: str | None) -> str | None:
        """What a synthetic model is made in for these options; ``usual``: the backend's own."""
        return usual

    def gpus(self) -> int | None:
        """How many GPUs it computes on, of those that it sees: 0, any one, the first 2 …

        None: all of them, or one that the options name by its number.
        """
        return None


class TextTokens(msgspec.Struct, frozen=True, kw_only=True):
    """A text as a model reads it."""

    ids: list[int]
    """None of them added."""
    begin: int | None = None
    """What the tokenizer puts before every text; None: nothing."""


class LogProbs(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine that gives no logits tells of each token of a sequence but the first."""

    told: list[float]
    """ln p of the token, after all that stands before it."""
    likeliest: list[int]
    """The token whose p was the largest there."""


NO_LOGITS = (
    "this backend gives no logits: output quality cannot be measured with it. llama-cpp, "
    "transformers and onnxruntime give them, vLLM and its server log-probabilities"
)


class Engine(Protocol):
    """One loaded model."""

    def facts(self) -> EngineFacts:
        """Describe the engine as it was loaded."""
        ...

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Decode every sequence of ``request`` greedily, in step, ignoring any end of sequence.

        Reads the first ``depth`` tokens of each sequence and waits for the device, then calls
        ``timeline.start()`` when the rest is handed over. Calls ``timeline.token(id)`` as soon as
        the token is available to the caller, ``timeline.step(ids)`` with one of each sequence
        for a batch, ``timeline.chunk(ids)`` where an engine delivers several at once; an id is
        UNKNOWN where the engine counts a token and does not name it. Calls ``timeline.reject(why)``
        where the tokens cannot be counted exactly. Of a queue, where ``facts().queue`` says that it
        is taken: ``timeline.arrive(sequences, ids)`` with those that have a token of use in this
        step, by their place in the queue. Nothing of an earlier request may be reused.
        What does not fit into ``facts()`` is refused before it gets here. Raises EngineEnded.
        """
        ...

    def tokenize(self, text: str) -> TextTokens:
        """Make tokens of a text. Raises EngineRefused without a tokenizer."""
        del text
        raise EngineRefused(NO_LOGITS)

    def logits(self, tokens: list[int]) -> Any:
        """Logits of what follows each token of one sequence: float32, (tokens, vocabulary).

        Anything with Python's buffer protocol, row by row; or ``LogProbs``, of an engine that
        tells no more. The sequence is read with the options in force, into a context of its own,
        and nothing of another is in it. Raises EngineRefused.
        """
        del tokens
        raise EngineRefused(NO_LOGITS)

    def timings(self) -> EngineTimings | None:
        """Tell what the engine itself measured of the last request; None: it does not."""
        return None

    def device_peaks(self) -> list[AllocatorPeak]:
        """Tell what the engine's allocator took on each GPU; empty: it has none that tells."""
        return []

    def reset_device_peaks(self) -> None:
        """Start new peaks."""
        return

    def close(self) -> None:
        """Give the model's memory back."""
        ...


class Backend(Protocol):
    """The adapter of one engine. Its module imports the engine only inside functions."""

    name: ClassVar[str]
    distribution: ClassVar[str | None]
    """The package whose version is reported; None when there is nothing to install."""
    install: ClassVar[str]
    """The command that installs it."""
    model_format: ClassVar[ModelFormat | None]
    """What it loads; None: it needs no model files."""
    default_quantization: ClassVar[str | None]
    """What a synthetic model is made in when the test does not say."""
    options_type: ClassVar[type[BackendOptions]]

    clock: Clock
    """The clock of its timelines: real, except where time itself is scripted."""

    def import_engine(self) -> str:
        """Import the engine and return its version. Raises EngineMissing."""
        ...

    def load(self, model: ModelFiles | None, options: BackendOptions, invocation: int) -> Engine:
        """Load ``model`` (None if ``model_format`` is).

        ``invocation`` counts the fresh workers of one measurement from 0. Raises EngineRefused
        for options that the engine does not take, EngineEnded.
        """
        ...
