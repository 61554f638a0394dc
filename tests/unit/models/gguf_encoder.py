"""How is a GGUF file of either version and byte order laid out, and where do its numbers stand?

A second encoder beside the reference package's, which writes neither version 2 nor the places. The
format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pytest_llmperf.models.gguf_bytes import ByteOrder, Scalar

FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
UINT8, UINT16, UINT32, INT32, FLOAT32, BOOL, TEXT, ARRAY = 0, 2, 4, 5, 6, 7, 8, 9
F32, F16, Q4_0, Q4_K = 0, 1, 2, 12
Place = tuple[int, int]
"""Where a number that tells a size, a count, a type or an offset begins, and its bytes."""


class Encoder:
    """A header that grows; ``places`` are those of its structure, not those of its values."""

    def __init__(self, byte_order: ByteOrder = "little", version: int = 3) -> None:
        self.byte_order, self.version = byte_order, version
        self.content = bytearray()
        self.places: list[Place] = []
        self.entries = self.tensors = self.data_bytes = 0
        with self._counted():
            self.raw(b"GGUF")
            self.told("I", version)
            self.told("QQ", 0, 0)

    def raw(self, content: bytes) -> None:
        self.content += content

    def numbers(self, form: str, *values: Scalar) -> None:
        self.raw(struct.pack(("<" if self.byte_order == "little" else ">") + form, *values))

    def told(self, form: str, *values: int) -> None:
        for letter, value in zip(form, values, strict=True):
            self.places.append((len(self.content), struct.calcsize(f"<{letter}")))
            self.numbers(letter, value)

    def text(self, value: str) -> None:
        self.told("Q", len(value.encode()))
        self.raw(value.encode())

    def value(self, kind: int, value: Scalar) -> None:
        if isinstance(value, str):
            self.text(value)
        else:
            self.numbers(FORMS[kind], value)

    def entry(self, key: str, kind: int, value: Scalar) -> None:
        with self._counted():
            self.entries += 1
            self.text(key)
            self.told("I", kind)
            self.value(kind, value)

    def array(self, key: str, kind: int, values: Sequence[Scalar]) -> None:
        with self._counted():
            self.entries += 1
            self.text(key)
            self.told("IIQ", ARRAY, kind, len(values))
            for value in values:
                self.value(kind, value)

    def tensor(self, name: str, shape: Sequence[int], kind: int, size: int) -> None:
        """A tensor of ``size`` bytes behind the ones before it."""
        with self._counted():
            self.tensors += 1
            self.text(name)
            self.told("I" + "Q" * len(shape), len(shape), *shape)
            self.told("IQ", kind, self.data_bytes)
            self.data_bytes += -(-size // 32) * 32

    def file(self) -> bytes:
        """The header, aligned, and data of ones."""
        head = bytes(self.content)
        return head + b"\0" * (-len(head) % 32) + b"\1" * self.data_bytes

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Write the counts anew after an entry."""
        yield
        order = "<" if self.byte_order == "little" else ">"
        struct.pack_into(order + "QQ", self.content, 8, self.tensors, self.entries)


def model(byte_order: ByteOrder = "little", version: int = 3) -> Encoder:
    """A small model with everything that the format has."""
    made = Encoder(byte_order, version)
    made.entry("general.architecture", TEXT, "llama")
    made.entry("general.alignment", UINT32, 32)
    for kind in FORMS:
        made.entry(f"number.{kind}", kind, True if kind == BOOL else 1)
    made.entry("general.name", TEXT, "größe ✓ 😀")
    made.array("llama.attention.head_count_kv", INT32, [4, 8, 0, 2])
    made.array("llama.attention.sliding_window_pattern", BOOL, [True, False, True, True])
    made.array("halves", FLOAT32, [0.5, -1.5])
    made.array("nothing", UINT8, [])
    made.array("tokenizer.ggml.tokens", TEXT, ["a", "", "größe", "x" * 40])
    made.tensor("token_embd.weight", (32, 4), Q4_0, 72)
    made.tensor("blk.0.attn_norm.weight", (8,), F32, 32)
    made.tensor("blk.0.ffn_gate_exps.weight", (256, 2, 1, 1), Q4_K, 288)
    made.tensor("future", (16, 2), 99, 64)
    made.tensor("output.weight", (3, 5), F16, 30)
    return made
