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
    EngineMissing,
    EngineRefused,
    Timeline,
    find_backend,
    read_options,
)
from pytest_llmperf.worker.board import Board, Phase
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
    decode_to_worker,
    write_frame,
)


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
            return 0
        write_frame(outgoing, worker.answer(message))


class _Worker:
    """The one backend and engine of this process."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._backend: Backend | None = None
        self._engine: Engine | None = None
        self._context_tokens = 0

    def answer(self, message: Load | Generate) -> FromWorker:
        """Do what the message asks; whatever the engine raises becomes a Failed message."""
        try:
            if isinstance(message, Load):
                return self._load(message)
            return self._generate(message)
        except EngineMissing as error:
            return _failed("missing", error)
        except EngineRefused as error:
            return _failed("refused", error)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; it is reported
            return _failed("raised", error)
        finally:
            self._board.phase = Phase.IDLE

    def _load(self, message: Load) -> Loaded:
        backend = find_backend(message.backend)
        self._backend = backend
        clock = backend.clock
        self._board.phase = Phase.IMPORT
        began = clock()
        version = backend.import_engine()
        imported = clock()
        self._board.phase = Phase.LOAD
        options = read_options(backend, message.options)
        engine = backend.load(message.model, options, message.invocation)
        loaded = clock()
        facts = engine.facts()
        self._engine, self._context_tokens = engine, facts.context_tokens
        return Loaded(
            version=version,
            import_ns=imported - began,
            load_ns=loaded - imported,
            engine=facts,
        )

    def _generate(self, message: Generate) -> Generated:
        if self._engine is None or self._backend is None:
            raise EngineRefused("asked to generate before a model was loaded")
        wanted, room = len(message.prompt) + message.new_tokens, self._context_tokens
        if wanted > room:
            raise EngineRefused(f"{wanted} tokens asked for, the context holds {room}")
        timeline = Timeline(message.new_tokens, self._backend.clock, self._board.marks)
        self._board.phase = Phase.GENERATE
        gc.collect()
        gc.disable()  # a collection inside the timed section would be measured as the engine's
        try:
            self._engine.generate(message.prompt, message.new_tokens, timeline)
        finally:
            gc.enable()
        return Generated(
            started_ns=timeline.started_ns,
            instants_ns=timeline.instants_ns,
            token_ids=timeline.token_ids,
            count=timeline.count,
        )

    def close(self) -> None:
        """Free the engine."""
        self._board.phase = Phase.CLOSE
        if self._engine is not None:
            self._engine.close()


def _failed(kind: str, error: Exception) -> Failed:
    text = "".join(traceback.format_exception(error))
    if kind != "refused":  # a refusal is complete in itself, and the engine's last words precede it
        print(text, file=sys.stderr, flush=True)
    name = "" if isinstance(error, (EngineMissing, EngineRefused)) else f"{type(error).__name__}: "
    return Failed(kind=kind, message=f"{name}{error}", traceback=text)
