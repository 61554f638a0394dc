"""How does a test make a GGUF file, right or wrong in exactly one place?"""

from __future__ import annotations

import struct
from collections.abc import Sequence

UINT32, STRING, ARRAY = 4, 8, 9


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", UINT32, value)


def word(key: str, value: str) -> bytes:
    return text(key) + struct.pack("<I", STRING) + text(value)


def texts(key: str, values: Sequence[str]) -> bytes:
    head = text(key) + struct.pack("<IIQ", ARRAY, STRING, len(values))
    return head + b"".join(map(text, values))


def tensor(name: str, shape: Sequence[int], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


def file(
    entries: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    version: int = 3,
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    head += b"".join(entries) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + data


def small_model(**numbers: int) -> bytes:
    """A whole file: one F32 tensor of 8 and one Q4_0 tensor of 64 elements."""
    entries = [
        word("general.architecture", "llama"),
        texts("tokenizer.ggml.tokens", ["a", "b", "ü" * 9]),
        number("llama.context_length", 77),
        *(number(key.replace("__", "."), value) for key, value in numbers.items()),
    ]
    tensors = [tensor("norm", (8,), 0, 0), tensor("matrix", (32, 2), 2, 32)]
    return file(entries, tensors, b"\1" * (32 + 36))
