"""The worker's side: import one backend, load one model, answer until told to leave."""

from __future__ import annotations

import gc
import os
import platform
import sys
import traceback
from pathlib import Path

from pytest_llmperf import child
from pytest_llmperf.backends import (
    Backend,
    Engine,
    EngineEnded,
    EngineFacts,
    EngineMissing,
    EngineRefused,
    Request,
    Timeline,
    find_adapter,
    read_options,
)
from pytest_llmperf.worker.board import Board, Phase
from pytest_llmperf.worker.borders import Borders, MemoryBorders, UsageBorders
from pytest_llmperf.worker.messages import (
    PROTOCOL,
    ChannelClosed,
    Close,
    Failed,
    FrameReader,
    FromWorker,
    Generate,
    Generated,
    Hello,
    Load,
    Loaded,
    Score,
    Scored,
    Tokenize,
    Tokenized,
    decode_to_worker,
    write_frame,
)
from pytest_llmperf.worker.scores import score
from pytest_llmperf.worker.usage import read_usage


def main(arguments: list[str]) -> int:
    """Serve the host until it says Close. ``arguments``: read fd, write fd, board file."""
    child.die_with_parent()
    incoming, outgoing = int(arguments[0]), int(arguments[1])
    for descriptor in (incoming, outgoing):
        os.set_inheritable(descriptor, False)
    worker = _Worker(Board(Path(arguments[2]), create=False))
    reader = FrameReader(incoming)
    write_frame(
        outgoing, Hello(protocol=PROTOCOL, pid=os.getpid(), python=platform.python_version())
    )
    while True:
        try:
            body = reader.read()
        except ChannelClosed:
            return 0
        if body is None:
            continue
        message = decode_to_worker(body)
        if isinstance(message, Close):
            worker.close()
            gc.freeze()  # else the interpreter collects among thousands of modules before it ends
            return 0
        write_frame(outgoing, worker.answer(message))


class _Worker:
    """The one backend and engine of this process."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._backend: Backend | None = None
        self._engine: Engine | None = None
        self._facts: EngineFacts | None = None

    def answer(self, message: Load | Generate | Tokenize | Score) -> FromWorker:
        """Do what the message asks; whatever the engine raises becomes a Failed message."""
        try:
            return self._do(message)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; it is reported
            return _failed(error)
        finally:
            self._board.phase = Phase.IDLE

    def _do(self, message: Load | Generate | Tokenize | Score) -> FromWorker:
        match message:
            case Load():
                return self._load(message)
            case Generate():
                return self._generate(message)
            case Tokenize():
                return Tokenized(tokens=self._loaded()[0].tokenize(message.text))
            case Score():
                return self._score(message)

    def _load(self, message: Load) -> Loaded:
        backend = find_adapter(message.adapter)
        self._backend = backend
        clock = backend.clock
        self._board.phase = Phase.IMPORT
        began = clock()
        version = backend.import_engine()
        imported = clock()
        self._board.phase = Phase.LOAD
        options = read_options(backend, message.options)
        before = read_usage()
        started = clock()
        engine = backend.load(message.model, options, message.invocation)
        loaded = clock()
        after = read_usage()
        self._engine, self._facts = engine, engine.facts()
        return Loaded(
            version=self._facts.version or version,
            import_ns=imported - began,
            load_ns=loaded - started,
            engine=self._facts,
            usage=[usage for usage in (before, after) if usage is not None],
            devices=engine.device_peaks(),
        )

    def _generate(self, message: Generate) -> Generated:
        engine, facts = self._loaded()
        assert self._backend is not None
        request = message.request
        _refuse_too_much(request, facts)
        borders = _BORDERS[message.observe]()
        timeline = Timeline(
            request.arrivals,
            self._backend.clock,
            self._board.marks,
            batch=1 if request.lengths else request.batch,
            observe=borders.cross,
        )
        if message.observe == "memory":
            engine.reset_device_peaks()
        self._board.phase = Phase.GENERATE
        clock = self._backend.clock
        gc.collect()
        gc.disable()  # a collection inside the timed section would be measured as the engine's
        began_ns = clock()
        try:
            engine.generate(request, timeline)
            borders.cross()
        finally:
            gc.enable()
        whole_ns = clock() - began_ns
        return Generated(
            started_ns=timeline.started_ns,
            instants_ns=timeline.instants_ns,
            chunk_tokens=timeline.chunk_tokens,
            token_ids=timeline.token_ids,
            count=timeline.count,
            sequences=timeline.sequences,
            whole_ns=whole_ns,
            rejected=timeline.rejected,
            usage=borders.usage,
            memory=borders.memory,
            devices=engine.device_peaks() if message.observe == "memory" else [],
            timings=engine.timings(),
        )

    def _loaded(self) -> tuple[Engine, EngineFacts]:
        """Raises EngineRefused before a model was loaded."""
        if self._engine is None or self._facts is None:
            raise EngineRefused("asked for an answer before a model was loaded")
        return self._engine, self._facts

    def _score(self, message: Score) -> Scored:
        engine, facts = self._loaded()
        tokens = message.token_ids
        if len(tokens) > facts.context_tokens:
            raise EngineRefused(
                f"{len(tokens)} tokens to score, the context holds {facts.context_tokens}"
            )
        self._board.phase = Phase.GENERATE
        return score(engine.logits(tokens), message, facts.vocab_size)

    def close(self) -> None:
        """Free the engine."""
        self._board.phase = Phase.CLOSE
        if self._engine is not None:
            self._engine.close()


_BORDERS: dict[str, type[Borders]] = {
    "nothing": Borders,
    "usage": UsageBorders,
    "memory": MemoryBorders,
}


def _refuse_too_much(request: Request, facts: EngineFacts) -> None:
    if request.total_tokens > facts.context_tokens:
        raise EngineRefused(
            f"{request.total_tokens} tokens asked for, the context holds {facts.context_tokens}"
        )
    if request.lengths:
        if not facts.queue:
            raise EngineRefused("a queue was asked for, the engine decodes in step only")
    elif facts.batch is not None and request.batch > facts.batch:
        raise EngineRefused(f"{request.batch} sequences asked for, the engine holds {facts.batch}")


_KINDS: dict[type[Exception], str] = {
    EngineMissing: "missing",
    EngineRefused: "refused",
    EngineEnded: "ended",
}
_COMPLETE = ("refused", "ended")
"""Kinds that need no traceback: the engine's own last words precede them in the log."""


def _failed(error: Exception) -> Failed:
    kind = next((each for raised, each in _KINDS.items() if isinstance(error, raised)), "raised")
    text = "".join(traceback.format_exception(error))
    if kind not in _COMPLETE:
        print(text, file=sys.stderr, flush=True)
    name = f"{type(error).__name__}: " if kind == "raised" else ""
    return Failed(kind=kind, message=f"{name}{error}", traceback=text)
