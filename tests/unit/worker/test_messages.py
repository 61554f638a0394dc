"""Do frames survive a pipe that splits, joins, garbles and closes them?"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from pytest_llmperf.backends import EngineFacts, EngineTimings, Request
from pytest_llmperf.models import ModelFiles
from pytest_llmperf.worker.messages import (
    MAX_FRAME_BYTES,
    BrokenFrame,
    ChannelClosed,
    ChannelTimeout,
    Close,
    Failed,
    FrameReader,
    Generate,
    Hello,
    Load,
    Loaded,
    Message,
    PhaseMemory,
    decode_from_worker,
    decode_to_worker,
    write_frame,
)
from pytest_llmperf.worker.peaks import read_tree
from pytest_llmperf.worker.usage import Usage
from tests.unit.worker.answers import generated

SOON_S = 0.02
HELLO = Hello(protocol=1, pid=4711, python="3.11.2")


class Pipe:
    """Both ends of a pipe, with a reader on one."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self.reader = FrameReader(self._read_end)

    def put(self, *parts: bytes) -> None:
        for part in parts:
            os.write(self.write_end, part)

    def read(self) -> bytes | None:
        return self.reader.read(time.monotonic() + SOON_S)

    def close_writing(self) -> None:
        os.close(self.write_end)
        self.write_end = -1

    def close(self) -> None:
        os.close(self._read_end)
        if self.write_end >= 0:
            self.close_writing()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


FILES = ModelFiles(
    path="/models/a.gguf",
    format="gguf",
    weight_bytes=100,
    parameters=200,
    bits_per_weight=4.5,
    type_mix={"Q4_K": 200},
    quantization="Q4_K_M",
    architecture="llama",
    vocab_size=32000,
    context_length=2048,
    synthetic=True,
)
OPTIONS: dict[str, str | int | float | bool | list[float] | None] = {
    "n_ctx": 64, "use_mmap": True, "flash_attn": "auto", "n_threads": None, "decode_tps": [1.5, 2.0]
}  # fmt: skip
REQUEST = Request(prompts=[[1, 2, 3], [4, 5, 6]], new_tokens=4, depth=1)
USAGE = Usage(
    at_ns=2**62,
    cpu_s=1.5,
    major_faults=1,
    minor_faults=2,
    disk_read_bytes=4,
    involuntary_switches=3,
)
TREE = read_tree(os.getpid())
FACTS = EngineFacts(vocab_size=32000, context_tokens=64, options={"n_ctx": 64}, build="AVX2 = 1")


@pytest.mark.parametrize(
    ("message", "decode"),
    [
        (HELLO, decode_from_worker),
        (
            Loaded(
                version="1", import_ns=5, load_ns=2**40, engine=FACTS, usage=[USAGE], devices=[]
            ),
            decode_from_worker,
        ),
        (
            generated(
                started_ns=1,
                instants_ns=[2, 2**62],
                count=3,
                usage=[USAGE] * 3,
                memory=PhaseMemory(prefill=TREE, decode=TREE, were_reset=False),
                timings=EngineTimings(total_s=0.5),
            ),
            decode_from_worker,
        ),
        (Failed(kind="raised", message="é\0", traceback="…"), decode_from_worker),
        (Load(adapter="a.fake:Fake", model=None, options=OPTIONS, invocation=2), decode_to_worker),
        (Load(adapter="a.llama:LlamaCpp", model=FILES, options={}, invocation=0), decode_to_worker),
        (Generate(request=REQUEST, observe="memory"), decode_to_worker),
        (Close(), decode_to_worker),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Message) else "",
)
def test_every_message_arrives_as_it_was_sent(
    pipe: Pipe, message: Message, decode: Callable[[bytes], Message]
) -> None:
    write_frame(pipe.write_end, message)
    body = pipe.read()
    assert body is not None
    assert decode(body) == message


@pytest.mark.parametrize(
    ("decode", "stranger"),
    [(decode_from_worker, Close()), (decode_to_worker, HELLO)],
    ids=["from worker", "to worker"],
)
def test_a_message_for_the_other_side_is_garbage(
    decode: Callable[[bytes], Message], stranger: Message
) -> None:
    with pytest.raises(BrokenFrame):
        decode(msgspec.msgpack.encode(stranger))


def test_a_frame_that_comes_byte_by_byte_is_whole_in_the_end(pipe: Pipe) -> None:
    *first, last = frame(b"hello")
    for byte in first:
        pipe.put(bytes([byte]))
        assert pipe.reader.read(wake_s=0) is None
    pipe.put(bytes([last]))
    assert pipe.read() == b"hello"


def test_two_frames_in_one_read_are_two(pipe: Pipe) -> None:
    pipe.put(frame(b"one") + frame(b"two"))
    assert [pipe.read(), pipe.read()] == [b"one", b"two"]


def test_a_frame_and_a_half_wait_for_the_other_half(pipe: Pipe) -> None:
    second = frame(b"second")
    pipe.put(frame(b"first") + second[:6])
    assert pipe.read() == b"first"
    with pytest.raises(ChannelTimeout):
        pipe.read()
    pipe.put(second[6:])
    assert pipe.read() == b"second"


def test_an_empty_frame_is_a_frame(pipe: Pipe) -> None:
    pipe.put(frame(b""))
    assert pipe.read() == b""


def test_a_length_that_no_message_has_is_refused_before_it_is_read(pipe: Pipe) -> None:
    pipe.put(struct.pack(">I", MAX_FRAME_BYTES + 1))
    with pytest.raises(BrokenFrame, match=f"a frame of {MAX_FRAME_BYTES + 1} bytes was announced"):
        pipe.read()


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff" * 64, b"plain text", msgspec.msgpack.encode({"type": "Hello"}), b"\x80"],
    ids=["empty", "0xff", "text", "half a message", "no tag"],
)
def test_a_body_that_is_no_message_is_garbage_and_shown(body: bytes) -> None:
    with pytest.raises(BrokenFrame) as caught:
        decode_from_worker(body)
    assert str(caught.value).endswith(f"it begins with {body[:16].hex(' ')}")


def test_text_that_is_no_utf8_is_garbage() -> None:
    body = msgspec.msgpack.encode(Failed(kind="raised", message="abcd", traceback=""))
    with pytest.raises(BrokenFrame):
        decode_from_worker(body.replace(b"abcd", b"\xff\xfe\xfd\xfc"))


def test_a_closed_pipe_is_told_from_a_silent_one(pipe: Pipe) -> None:
    with pytest.raises(ChannelTimeout):
        pipe.read()
    pipe.close_writing()
    with pytest.raises(ChannelClosed):
        pipe.read()


def test_a_pipe_that_closes_amid_a_frame_is_closed(pipe: Pipe) -> None:
    pipe.put(frame(b"hello")[:-1])
    pipe.close_writing()
    with pytest.raises(ChannelClosed):
        pipe.read()


def test_what_was_sent_before_closing_is_still_read(pipe: Pipe) -> None:
    pipe.put(frame(b"bye"))
    pipe.close_writing()
    assert pipe.read() == b"bye"


def test_a_wake_without_a_frame_is_no_timeout(pipe: Pipe) -> None:
    assert pipe.reader.read(time.monotonic() + 60, wake_s=0.001) is None


def test_writing_to_a_reader_that_is_gone_fails() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        write_frame(write_end, Close())
    os.close(write_end)


def test_writing_to_a_side_that_does_not_read_ends_at_the_deadline() -> None:
    read_end, write_end = os.pipe()
    longer_than_a_pipe_holds = Generate(request=Request(prompts=[[70000] * 100_000], new_tokens=1))
    with pytest.raises(ChannelTimeout):
        write_frame(write_end, longer_than_a_pipe_holds, time.monotonic() + 0.05)
    os.close(read_end)
    os.close(write_end)
