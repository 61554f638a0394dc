"""Does a dead worker's report say what happened, where, and what to do?"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pytest_llmperf.worker.errors import (
    Obituary,
    WorkerDied,
    WorkerError,
    is_out_of_memory,
    known_remedy,
    last_words,
)


@pytest.mark.parametrize("crash", [signal.SIGILL, signal.SIGSEGV])
def test_a_crash_of_llama_cpp_has_the_remedy_for_amx(crash: int) -> None:
    remedy = known_remedy("llama-cpp", -crash)
    assert remedy is not None
    assert "(AMX)" in remedy
    assert 'CMAKE_ARGS="-DGGML_NATIVE=OFF" pip install --force-reinstall' in remedy


@pytest.mark.parametrize(
    ("backend", "exit_code"),
    [
        ("transformers", -signal.SIGILL),
        ("fake", -signal.SIGSEGV),
        ("llama-cpp", -signal.SIGABRT),
        ("llama-cpp", -signal.SIGTERM),
        ("llama-cpp", 3),
        ("llama-cpp", 4),
    ],
)
def test_other_ends_have_no_remedy(backend: str, exit_code: int) -> None:
    assert known_remedy(backend, exit_code) is None


@pytest.mark.parametrize("backend", ["llama-cpp", "fake"])
def test_sigkill_points_at_the_out_of_memory_killer(backend: str) -> None:
    remedy = known_remedy(backend, -signal.SIGKILL)
    assert remedy is not None
    assert "AMX" not in remedy
    assert "dmesg" in remedy


def test_last_words_are_the_last_twenty_lines(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("".join(f"line {number}\n\n" for number in range(100)))
    assert last_words(log) == [f"line {number}" for number in range(80, 100)]


def test_last_words_of_ten_megabytes_with_binary_junk(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    junk = bytes(range(256)) * 4 + b"\n"
    last = b"".join(b"line %d \xff\xfe\n" % number for number in range(20))
    log.write_bytes(junk * (10 * 2**20 // len(junk)) + last)
    assert last_words(log) == [f"line {number} \ufffd\ufffd" for number in range(20)]


def test_last_words_of_a_log_cut_within_a_character(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_bytes("é".encode() * 40_000 + b"x\nthe end\n")
    assert last_words(log)[-1] == "the end"


@pytest.mark.parametrize("text", [None, "", "\n \n"], ids=["no log", "empty", "blank"])
def test_silence_has_no_last_words(tmp_path: Path, text: str | None) -> None:
    log = tmp_path / "worker.log"
    if text is not None:
        log.write_text(text)
    assert last_words(log) == []


def obituary(folder: Path, exit_code: int, backend: str = "fake") -> Obituary:
    log = folder / "worker.log"
    log.write_text("loading\nassertion failed\n")
    return Obituary(backend, exit_code, "decode (after 3 tokens) of sample 2 of 10", log)


def test_an_obituary(tmp_path: Path) -> None:
    assert obituary(tmp_path, 3).text() == (
        "fake worker exited with code 3 during decode (after 3 tokens) of sample 2 of 10\n"
        f"log: {tmp_path}/worker.log\n"
        "last words (2 lines of stderr):\n"
        "  loading\n"
        "  assertion failed"
    )


def test_an_obituary_with_a_remedy(tmp_path: Path) -> None:
    lines = obituary(tmp_path, -signal.SIGILL, "llama-cpp").text().splitlines()
    assert lines[0].startswith("llama-cpp worker killed by SIGILL during decode")
    assert "\n".join(lines[1:3]) == known_remedy("llama-cpp", -signal.SIGILL)


def test_a_worker_that_we_killed_gets_no_remedy_for_being_killed(tmp_path: Path) -> None:
    text = obituary(tmp_path, -signal.SIGKILL).text("gave no answer for 5 s, and was ended,")
    assert text.startswith("fake worker gave no answer for 5 s, and was ended, during decode")
    assert "SIGKILL" not in text


def test_an_obituary_without_last_words_ends_with_the_log(tmp_path: Path) -> None:
    log = tmp_path / "gone.log"
    assert Obituary("fake", 1, "load", log).text() == (
        f"fake worker exited with code 1 during load\nlog: {log}"
    )


def test_last_words_are_printable_and_of_bearable_length(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_bytes(b"\x1b[31mred\x1b[0m\x00 and \x07bell\n" + b"x" * 5000)
    assert last_words(log) == ["red and bell", "x" * 300]


@pytest.mark.parametrize(
    "text",
    [
        "raised OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "raised MemoryError: ",
        "raised RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate",
        "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 9",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ],
)
def test_want_of_memory_is_known_by_the_engines_words(text: str) -> None:
    assert is_out_of_memory(WorkerError(text))


def test_the_kernels_killer_is_want_of_memory_and_other_ends_are_not() -> None:
    killed = Obituary("llama-cpp", -signal.SIGKILL, "load", Path("none")).text()
    assert is_out_of_memory(WorkerDied(killed))
    crashed = Obituary("llama-cpp", -signal.SIGSEGV, "load", Path("none")).text()
    assert not is_out_of_memory(WorkerDied(crashed))
    assert not is_out_of_memory(
        WorkerError("libgomp.so: cannot allocate memory in static TLS block")
    )
