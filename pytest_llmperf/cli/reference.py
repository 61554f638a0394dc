"""What does this model say of a text? Kept in a file, for measurements of others against it."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path

import msgspec

from pytest_llmperf.cli.answer import TOOL_FAILED, complain, print_json, say, wrapped
from pytest_llmperf.cli.arguments import add_engine_options, read_seconds
from pytest_llmperf.cli.workbench import TROUBLES, Workbench, give_up
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Plan
from pytest_llmperf.measure.quality import NoDistribution
from pytest_llmperf.measure.reading import SHIPPED, TextRequest, find_text
from pytest_llmperf.measure.stored_reference import SUFFIX, Head
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.report import words

_INVALID = 1


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    told = "store what a model says of a text, to measure others against it"
    parser = commands.add_parser("reference", help=told, description=told)
    parser.add_argument("model", help="synthetic:NAME, a GGUF file, a model folder, hf:org/name")
    parser.add_argument("file", type=Path, metavar="FILE", help=f"written, such as bf16{SUFFIX}")
    parser.add_argument("--backend", help="llama-cpp, transformers (default: by the files)")
    parser.add_argument(
        "--python", metavar="PATH", help="the Python, of another environment, that loads it"
    )
    parser.add_argument("--quantization", metavar="Q", help="of a synthetic model, such as F16")
    parser.add_argument("--text", default=SHIPPED, metavar="FILE", help=f"({SHIPPED})")
    parser.add_argument(
        "--window-tokens",
        type=int,
        metavar="N",
        help="read at once (512, or what the model was made for if that is less)",
    )
    parser.add_argument(
        "--timeout",
        type=read_seconds,
        default=Plan().timeout_s,
        metavar="S",
        help=f"seconds for one load or one window ({Plan().timeout_s:g})",
    )
    add_engine_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read and store; see :func:`pytest_llmperf.cli.main` for the exit codes."""
    try:
        head = _store(options)
    except TROUBLES as error:
        return give_up("reference", error)
    except NoDistribution as error:
        complain(f"pytest-llmperf reference: {options.model}: {error}")
        return _INVALID
    except OSError as error:
        complain(f"pytest-llmperf reference: {options.file} cannot be stored: {error}")
        return TOOL_FAILED
    size = options.file.stat().st_size
    if options.json:
        print_json({"file": str(options.file), "bytes": size, **msgspec.structs.asdict(head)})
        return 0
    told = f"{head.windows} windows of {head.window_tokens} tokens of {head.text}"
    line = f"{options.file}: {head.model}, {told}, {words.size(size)}"
    say(*wrapped(line, break_long_words=False))
    return 0


def _store(options: argparse.Namespace) -> Head:
    """Raises ValueError for a target that cannot be, OSError, and as :data:`TROUBLES`."""
    _check_target(options.file)
    find_text(options.text)
    text = TextRequest(options.text, options.window_tokens)
    with Workbench("reference", detect()) as bench:
        loading = bench.prepare(
            ModelSpec(options.model, options.quantization),
            options.backend,
            dict(options.option),
            timeout_s=options.timeout,
            python=options.python,
        )
        return bench.store(loading, text, options.file, options.timeout)


def _check_target(file: Path) -> None:
    """Before a model is loaded and has read. Raises ValueError, PermissionError."""
    folder = file.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"{file}: there is no folder {folder}")
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file in it, such as {file}/bf16{SUFFIX}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
