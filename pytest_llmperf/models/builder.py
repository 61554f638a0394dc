"""How is the building of a synthetic model started, followed, and ended whatever happens?"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from pytest_llmperf import child
from pytest_llmperf.ending import exit_clause
from pytest_llmperf.models import errors
from pytest_llmperf.models.messages import Answer, BuildTask, Done, Failed, Progress

MODULE = "pytest_llmperf.models.build"

_LAST_LINES = 20
_LEAVE_S = 5.0
_LAST_BYTES = 16384
_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.BrokenModelFile,
        errors.BuildFailed,
        errors.NoSpace,
        errors.RequirementMissing,
        errors.UnknownQuantization,
        errors.UnsupportedModel,
    )
}


def run_builder(
    task: BuildTask, progress: Callable[[str, float], None], deadline: float | None
) -> None:
    """Have ``task`` done in a process of its own and wait for it.

    ``progress`` is called with a stage and its fraction; ``deadline`` is a time of
    ``time.monotonic``. However this returns, the process and its group are gone. Raises the
    ModelError that the builder reported, or BuildFailed, with the signal or exit code and the
    last lines it wrote, when it died or took too long.
    """
    with tempfile.TemporaryFile() as log:
        builder = child.start(
            [sys.executable, "-m", MODULE, msgspec.json.encode(task).decode()],
            environment=_environment(),
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=Path(task.folder),
        )
        pipe = builder.leader.stdout
        assert pipe is not None
        last: Answer | None = None
        finished = False
        try:
            for answer in _answers(pipe, deadline):
                last = answer
                if isinstance(answer, Progress):
                    progress(answer.stage, answer.fraction)
            finished = builder.wait_for_exit(_LEAVE_S)
        except TimeoutError:
            raise errors.BuildFailed(
                f"building {task.name} {task.quantization} took longer than it was allowed and "
                f"was ended.{_last_words(log)}"
            ) from None
        finally:
            code = builder.end()
            pipe.close()
        if isinstance(last, Failed):
            words = _last_words(log) if last.kind == errors.BuildFailed.__name__ else ""
            raise _KINDS.get(last.kind, errors.BuildFailed)(last.text + words)
        if not (finished and code == 0 and isinstance(last, Done)):
            raise errors.BuildFailed(
                f"the process that built {task.name} {task.quantization} "
                f"{exit_clause(code)} before it was done.{_last_words(log)}"
            )


_LONGEST_S = 24 * 3600.0


def _answers(pipe: IO[bytes], deadline: float | None) -> Iterator[Answer]:
    """Yield the builder's answers until it closes the pipe. Raises TimeoutError."""
    decoder = msgspec.json.Decoder(Answer)
    rest = b""
    while True:
        patience = _LONGEST_S if deadline is None else max(0.0, deadline - time.monotonic())
        if not child.is_ready(pipe.fileno(), select.POLLIN, patience):
            raise TimeoutError
        chunk = os.read(pipe.fileno(), 65536)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield decoder.decode(line)


def _environment() -> dict[str, str]:
    """Return the caller's environment for a builder that uses no network and no GPU."""
    variables = dict(os.environ)
    variables |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    return child.importable(variables)


def _last_words(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_BYTES))
    lines = log.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
    return " It wrote last:\n" + "\n".join(f"    {line}" for line in lines) if lines else ""
