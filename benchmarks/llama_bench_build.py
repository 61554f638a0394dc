"""Where are llama.cpp's own programs, of the same source and flags as the installed binding?

    python benchmarks/llama_bench_build.py [llama-bench | llama-server | llama-perplexity]

llama-cpp-python's source package carries llama.cpp. A program is built once, as the Makefile
builds the wheel but with the tools, and kept in this project's cache folder. On 2 cores llama-bench
takes about 4 minutes, llama-server longer. None has a web page or fetches anything.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import filelock
import msgspec

from pytest_llmperf.models.cache import cache_root

WHEEL_FLAGS = ("-DGGML_NATIVE=OFF", "-DLLAVA_BUILD=OFF")
"""LLAMA_FLAGS of the Makefile, but for the tools."""
TOOL_FLAGS = (
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",  # the result is moved to its place when it is whole
)

_TELL = """
import ctypes, msgspec, os, sys
folder, suffix = sys.argv[1:]
load = lambda name: ctypes.CDLL(os.path.join(folder, name + suffix))
def said(function):
    function.restype = ctypes.c_char_p
    return function().decode().strip()
base, llama = load("libggml-base"), load("libllama")
facts = {"ggml": said(base.ggml_version), "system": said(llama.llama_print_system_info)}
sys.stdout.buffer.write(msgspec.json.encode(facts))
"""


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What a llama.cpp library says of itself."""

    ggml: str
    """Version of ggml."""
    system: str
    """The CPU features it was built with."""


class BuildsDiffer(Exception):
    """The installed binding was built in another way, so that comparing would say nothing."""


def llama_bench() -> Path:
    """llama-bench, built if need be. Raises as :func:`llama_program` does."""
    return llama_program("llama-bench", "OFF")


def llama_server() -> Path:
    """llama-server, built if need be. Raises as :func:`llama_program` does."""
    return llama_program("llama-server", "ON")


def llama_perplexity() -> Path:
    """llama-perplexity, built if need be. Raises as :func:`llama_program` does."""
    return llama_program("llama-perplexity", "OFF")


def llama_program(name: str, with_server: str) -> Path:
    """The program, built if need be; ``with_server``: ON or OFF, as CMake is told.

    Raises BuildsDiffer, and CalledProcessError with its output printed when a step fails.
    """
    version = importlib.metadata.version("llama-cpp-python")
    flags = (*WHEEL_FLAGS, *TOOL_FLAGS, f"-DLLAMA_BUILD_SERVER={with_server}")
    key = zlib.crc32(" ".join((*flags, platform.machine())).encode())
    folder = cache_root() / name / f"{version}-{key:08x}"
    program = folder / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not program.exists():
            _build(name, version, flags, folder)
    theirs, ours = describe(folder), describe(binding_libraries())
    if theirs != ours:
        raise BuildsDiffer(
            f"the installed llama-cpp-python {version} and the {name} built here differ:\n"
            f"  binding: ggml {ours.ggml}, {ours.system}\n"
            f"  {name}: ggml {theirs.ggml}, {theirs.system}\n"
            f'install the binding with CMAKE_ARGS="{" ".join(WHEEL_FLAGS)}", as the Makefile does'
        )
    return program


def binding_libraries() -> Path:
    """The folder of the libraries that the installed binding loads; nothing is imported."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("llama-cpp-python is not installed")
    return Path(found.origin).parent / "lib"


def describe(folder: Path) -> Build:
    """Ask the libraries in ``folder``, in a process of its own."""
    suffix = {"Darwin": ".dylib", "Windows": ".dll"}.get(platform.system(), ".so")
    answer = subprocess.run(
        [sys.executable, "-c", _TELL, str(folder), suffix], check=True, capture_output=True
    )
    return msgspec.json.decode(answer.stdout, type=Build)


def _build(name: str, version: str, flags: Sequence[str], folder: Path) -> None:
    print(f"building {name} of llama-cpp-python {version}, once; some minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as scratch:
        work = Path(scratch)
        source = _source(version, work)
        cmake = _tool("cmake", work)
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        options = ["-DCMAKE_BUILD_TYPE=Release", *flags]
        target = str(work / "build")
        _run([cmake, "-S", str(source), "-B", target, *generator, *options])
        jobs = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
        _run([cmake, "--build", target, "--target", name, "--parallel", jobs])
        (work / "build" / "bin").rename(folder)


def _source(version: str, work: Path) -> Path:
    """Fetch and unpack the source package."""
    wanted = ["--no-deps", "--no-binary", "llama-cpp-python", f"llama-cpp-python=={version}"]
    _run([sys.executable, "-m", "pip", "download", "-q", "-d", str(work / "sdist"), *wanted])
    (package,) = (work / "sdist").glob("*.tar.gz")
    with tarfile.open(package) as archive:
        archive.extractall(work / "source", filter="data")
    (source,) = (work / "source").iterdir()
    return source


def _tool(name: str, work: Path) -> str:
    """A build tool of the system, else one from the package index, in an environment of its own."""
    found = shutil.which(name)
    if found is not None:
        return found
    environment = work / "tools"
    _run([sys.executable, "-m", "venv", str(environment)])
    _run([str(environment / "bin" / "pip"), "install", "-q", name])
    return str(environment / "bin" / name)


def _run(command: Sequence[str]) -> None:
    """Run one step quietly; its output is shown when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        sys.stderr.buffer.write(done.stdout[-8000:])
        done.check_returncode()


if __name__ == "__main__":
    programs = {"llama-server": llama_server, "llama-perplexity": llama_perplexity}
    print(programs.get(sys.argv[-1], llama_bench)())
