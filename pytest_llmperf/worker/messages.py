"""What may the two sides of the process boundary say to each other?

A frame is four bytes of length, big-endian, and a MessagePack body holding one of the structs
below. The worker speaks first, with :class:`Hello`; after that it only answers.
"""

from __future__ import annotations

import math
import os
import select
import struct
import time
from typing import Literal, TypeVar

import msgspec

from pytest_llmperf.backends import (
    AllocatorPeak,
    EngineFacts,
    EngineTimings,
    LogProbs,
    OptionValue,
    Request,
    TextTokens,
)
from pytest_llmperf.child import is_ready
from pytest_llmperf.models import ModelFiles
from pytest_llmperf.worker.peaks import TreeMemory
from pytest_llmperf.worker.usage import Usage

PROTOCOL = 7
"""Version of everything in this file; both sides must have the same."""

MAX_FRAME_BYTES = 64 << 20
_LONGEST_WAIT_S = 3600.0
_LENGTH = struct.Struct(">I")


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages; the wire carries the class name as a tag."""


class Hello(Message, frozen=True):
    """Worker: I am up."""

    protocol: int
    pid: int
    python: str


class Load(Message, frozen=True):
    """Host: import this backend's engine and load this model."""

    adapter: str
    """The backend's, as ``module:Class``."""
    model: ModelFiles | None
    options: dict[str, OptionValue | list[float]]
    invocation: int


class Loaded(Message, frozen=True):
    """Worker: the model is ready to generate."""

    version: str
    import_ns: int
    load_ns: int
    engine: EngineFacts
    usage: list[Usage]
    """Before and after the load; empty where the system does not tell."""
    devices: list[AllocatorPeak]


class Generate(Message, frozen=True):
    """Host: answer this request."""

    request: Request
    observe: Literal["nothing", "usage", "memory"] = "usage"
    """What to read at the borders of the phases. Memory peaks are reset there, too."""


class PhaseMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory peaks of the worker and its children in each phase of one request."""

    prefill: TreeMemory
    decode: TreeMemory
    were_reset: bool
    """Whether the peaks are of these phases alone."""


class Generated(Message, frozen=True):
    """Worker: the instants, in nanoseconds of the worker's clock, and the ids of the tokens."""

    started_ns: int
    instants_ns: list[int]
    """One for each arrival."""
    chunk_tokens: list[int]
    """Tokens of each arrival; empty: one of each sequence."""
    token_ids: list[int]
    """In the order of arrival; of a batch step by step."""
    count: int
    """Tokens of each sequence, of a queue of all together; more than ``token_ids`` holds when the
    engine did not stop."""
    whole_ns: int
    """What the request took in all, with the tokens read before t_0."""
    usage: list[Usage]
    """At t_0, t_1 and t_n, if asked for and told by the system."""
    memory: PhaseMemory | None
    devices: list[AllocatorPeak]
    """Peaks since the request began, if memory was to be observed."""
    timings: EngineTimings | None
    rejected: str | None = None
    """Why the engine's adapter says that these numbers mean nothing; None: it does not."""
    sequences: list[int] = []
    """Of a queue, the sequence of each token."""


class Tokenize(Message, frozen=True):
    """Host: make tokens of this text."""

    text: str


class Tokenized(Message, frozen=True):
    """Worker: these are they."""

    tokens: TextTokens


class Score(Message, frozen=True):
    """Host: write the logits that follow these tokens of one sequence into a file."""

    token_ids: list[int]
    first: int
    """Those of earlier tokens are left out."""
    path: str


class Scored(Message, frozen=True):
    """Worker: the file holds so many rows of so many float32; or there is none."""

    rows: int
    columns: int
    log_probs: LogProbs | None = None
    """Of the tokens after the first that counts, from an engine that gives no logits."""


class Failed(Message, frozen=True):
    """Worker: that did not work."""

    kind: str
    """``missing``: engine not importable; ``refused``: it will not; ``ended``: a process of it is
    gone; ``raised``: an exception."""
    message: str
    traceback: str


class Close(Message, frozen=True):
    """Host: give everything back and leave."""


M = TypeVar("M")

ToWorker = Load | Generate | Tokenize | Score | Close
FromWorker = Hello | Loaded | Generated | Tokenized | Scored | Failed


class BrokenFrame(Exception):
    """What came over the channel is not a message."""


class ChannelClosed(Exception):
    """The other side closed its end."""


class ChannelTimeout(Exception):
    """Nothing complete arrived before the deadline."""


def write_frame(descriptor: int, message: Message, deadline: float = math.inf) -> None:
    """Send one message before ``deadline``, an instant of ``time.monotonic()``.

    Raises ChannelTimeout when the other side does not read, and OSError (BrokenPipeError when it
    is gone).
    """
    body = msgspec.msgpack.encode(message)
    view = memoryview(_LENGTH.pack(len(body)) + body)
    while view:
        left_s = min(_LONGEST_WAIT_S, max(0.0, deadline - time.monotonic()))
        if is_ready(descriptor, select.POLLOUT, left_s):
            # A pipe that is writable takes this much without blocking (pipe(7)).
            view = view[os.write(descriptor, view[: select.PIPE_BUF]) :]
        elif time.monotonic() >= deadline:
            raise ChannelTimeout


class FrameReader:
    """Reads whole frames from a descriptor, each before a deadline."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()

    def read(self, deadline: float | None = None, *, wake_s: float = 3600.0) -> bytes | None:
        """One frame's body, or None after ``wake_s`` seconds without one.

        ``deadline`` is an instant of ``time.monotonic()``. Raises ChannelTimeout, ChannelClosed,
        and BrokenFrame for a length that no message has.
        """
        wake = time.monotonic() + wake_s
        while True:
            body = self._take()
            if body is not None:
                return body
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise ChannelTimeout
            if now >= wake:
                return None
            until = wake if deadline is None else min(wake, deadline)
            if is_ready(self._descriptor, select.POLLIN, until - now):
                part = os.read(self._descriptor, 1 << 16)
                if not part:
                    raise ChannelClosed
                self._buffer += part

    def _take(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise BrokenFrame(f"a frame of {length} bytes was announced")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return body


def decode_from_worker(body: bytes) -> FromWorker:
    """Decode what a worker sent. Raises BrokenFrame."""
    return _decode(_FROM_WORKER, body)


def decode_to_worker(body: bytes) -> ToWorker:
    """Decode what the host sent. Raises BrokenFrame."""
    return _decode(_TO_WORKER, body)


_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def _decode(decoder: msgspec.msgpack.Decoder[M], body: bytes) -> M:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenFrame(f"{error}; it begins with {body[:16].hex(' ')}") from None
