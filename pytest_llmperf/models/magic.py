"""What is a file really, when it is not what its name says?"""

from __future__ import annotations

_BEGINNINGS = (
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a git-lfs pointer (fetch the file itself: git lfs pull)"),
    (b"PK\x03\x04", "a zip archive, perhaps a pickled PyTorch checkpoint"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"lmgg", "a GGML file from before GGUF"),
    (b"tjgg", "a GGJT file from before GGUF"),
    (b"fmgg", "a GGMF file from before GGUF"),
    (b"FUGG", "a GGUF file with reversed bytes"),
    (b"{", "JSON"),
)


def name_of_content(start: bytes) -> str:
    """Say what begins with the bytes ``start`` (a few hundred of them), for an error message."""
    if not start:
        return "an empty file"
    for beginning, name in _BEGINNINGS:
        if start.startswith(beginning):
            return name
    if start.lstrip()[:9].lower() in (b"<!doctype", b"<html") or b"<html" in start[:256].lower():
        return "an HTML page (a failed download?)"
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 32:
        return "a safetensors file"
    if not start.strip(b"\0"):
        return "zeros (a download that was reserved, not finished?)"
    return f"something that begins with {start[:8]!r}"
