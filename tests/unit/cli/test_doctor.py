"""Does doctor say what this machine is, and what mends a backend?"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from pytest_llmperf import cli
from pytest_llmperf.backends import backend_names, find_backend
from pytest_llmperf.cli import answer
from pytest_llmperf.cli.doctor import (
    BackendHealth,
    backend_lines,
    examine,
    machine_lines,
    parted,
    remedy_for,
)
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.nvidia import Look
from pytest_llmperf.worker.errors import Obituary, known_remedy
from tests.unit.hardware import trees
from tests.unit.hardware.test_requirement import gpu


@pytest.mark.parametrize(
    ("backend", "number"),
    [
        ("llama-cpp", signal.SIGILL),
        ("llama-cpp", signal.SIGSEGV),
        ("llama-cpp", signal.SIGKILL),
        ("transformers", signal.SIGKILL),
        ("transformers", signal.SIGSEGV),
        ("llama-cpp", signal.SIGABRT),
    ],
)
def test_the_remedy_follows_from_the_workers_own_report(
    tmp_path: Path, backend: str, number: signal.Signals
) -> None:
    report = Obituary(backend, -number, "load", tmp_path / "log").text()
    assert remedy_for(backend, report) == known_remedy(backend, -number)


@pytest.mark.parametrize(
    "report",
    [
        "llama-cpp worker exited with code 3 during load",
        "killed by signal 40",
        "killed by SIGNOSUCH",
        "",
    ],
)
def test_what_is_no_known_crash_has_no_remedy(report: str) -> None:
    assert remedy_for("llama-cpp", report) is None


def test_a_healthy_backend_is_one_line() -> None:
    health = BackendHealth(name="fake", version="1.2", status="works", detail="generates (AVX2)")
    assert backend_lines(health) == ["  fake          1.2       works: generates (AVX2)"]


def test_a_missing_backend_shows_what_installs_it() -> None:
    health = BackendHealth(
        name="llama-cpp", version=None, status="missing", detail="not installed", remedy="pip x"
    )
    assert backend_lines(health) == [
        "  llama-cpp     –         missing: not installed",
        "      → pip x",
    ]


def test_a_broken_backend_shows_every_line_indented() -> None:
    health = BackendHealth(
        name="llama-cpp", version="0.3", status="broken", detail="died\nlog: x", remedy="a\nb"
    )
    assert backend_lines(health) == [
        "  llama-cpp     0.3       broken: died",
        "      log: x",
        "      → a",
        "      → b",
    ]


def test_no_detail_is_no_trouble() -> None:
    health = BackendHealth(name="fake", version="1", status="works", detail="")
    assert backend_lines(health) == ["  fake          1         works: "]


def test_a_laptop(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    lines = machine_lines(detect(tmp_path, host=trees.host("x86_64", 16)))
    assert lines == [
        "system       Fedora Linux 41 (Workstation Edition), x86_64, kernel 6.8.0-45-generic",
        "cpu          12th Gen Intel(R) Core(TM) i7-1260P, avx_vnni",
        "cores        16 usable of 16",
        "caches       unknown",
        "memory       15.3 GiB, 8.6 usable",
        "device       no known board",
        *[line for line in lines if line.startswith("gpu ")],
        *[line for line in lines if line.startswith("fingerprint ")],
    ]
    assert lines[-2].endswith("(display only)")
    assert lines[-1].split()[1].startswith("linux-x86_64-intel-6-154-16c-")


def test_a_container_shows_its_limits(tmp_path: Path) -> None:
    trees.container(tmp_path)
    lines = machine_lines(detect(tmp_path, host=trees.host("x86_64", 64)))
    assert "cores        1 usable of 64, quota 1.5" in lines
    assert any(line.startswith("memory ") and line.endswith(", limit 4.0") for line in lines)
    assert "gpu          none" in lines


def test_a_gpu_and_a_trouble(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    look = Look(accelerators=(gpu(),), findings=("driver and library differ: reboot",))
    lines = machine_lines(detect(tmp_path, host=trees.host("x86_64", 16, nvidia=look)))
    assert "gpu          nvidia RTX 4060 Ti, 16.0 GiB, compute 8.9" in lines
    assert "trouble      driver and library differ: reboot" in lines


def test_an_engine_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = find_backend("llama-cpp")
    monkeypatch.setattr(type(backend), "distribution", "no-such-package-for-llmperf")
    assert examine(backend) == BackendHealth(
        name="llama-cpp",
        version=None,
        status="missing",
        detail="not installed",
        remedy="pip install 'pytest-llmperf[llama-cpp]'",
    )


@pytest.mark.parametrize(
    ("message", "what", "remedy"),
    [
        (
            "cannot start x: No such file; build x; or name it",
            "cannot start x: No such file",
            "build x; or name it",
        ),
        ("fastapi is not installed: pip install y", "fastapi is not installed", "pip install y"),
        (
            "needs z, which cannot be imported (no z): pip install z",
            "needs z, which cannot be imported (no z)",
            "pip install z",
        ),
        ("cannot import x: no libx.so", "cannot import x: no libx.so", "the usual line"),
    ],
)
def test_the_remedy_of_what_is_missing_is_that_of_its_message(
    message: str, what: str, remedy: str
) -> None:
    assert parted(message, "the usual line") == (what, remedy)


def test_a_server_that_is_missing_is_not_mended_by_its_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    health = examine(find_backend("openai"))
    assert health.status == "missing"
    assert health.detail.startswith("cannot start llama-server: ")
    assert health.remedy is not None
    assert health.remedy.startswith("build or install llama.cpp")


def test_a_backend_is_examined_in_the_python_that_is_named_for_it() -> None:
    health = examine(find_backend("fake"), sys.executable)
    assert (health.status, health.version) == ("works", "1")


def test_an_engine_that_the_other_python_lacks_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "exllamav2.py").write_text("raise ImportError('no CUDA here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    backend = find_backend("exllamav2")
    assert examine(backend, sys.executable) == BackendHealth(
        name="exllamav2",
        version=None,
        status="missing",
        detail="cannot import exllamav2: no CUDA here",
        remedy=backend.install,
    )


def test_a_python_that_can_run_no_worker_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("")
    health = examine(find_backend("fake"), str(python))
    assert health.status == "broken"
    assert health.detail.startswith(f"{python} cannot be started: ")


@pytest.mark.parametrize(
    ("python", "why"),
    [
        ("vllm", "'vllm' must read BACKEND=PATH"),
        ("vllm=/no/such/python", "/no/such/python: there is no such file"),
        (f"vllm={sys.executable}", "vllm is not looked at; name it among the backends, too"),
    ],
)
def test_a_python_that_cannot_be_meant_is_a_usage_error(
    python: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "fake", "--python", python]) == answer.USAGE
    assert capsys.readouterr().err.strip() == f"--python: {why}"


def test_an_unknown_backend_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "fake", "llama"]) == answer.USAGE
    said = " ".join(capsys.readouterr().err.split())
    assert said == f"unknown backend 'llama'; known: {', '.join(backend_names())}"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["doctor", "--no-such-option"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == answer.USAGE
