"""Which of the user's environment variables reach a worker, and can it live in another Python?"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping

from pytest_llmperf import child
from pytest_llmperf.backends import BackendError

_PROBE_S = 60.0
_LAST_WORDS = 200
_PROBE = """
import sys
if sys.version_info < (3, 11):
    sys.exit("is Python %d.%d; a worker needs 3.11 or later" % sys.version_info[:2])
try:
    import pytest_llmperf.worker.process
except ModuleNotFoundError as error:
    ours = error.name.startswith("pytest_llmperf")
    missing = "pytest-llmperf msgspec" if ours else error.name
    sys.exit("has no module %s, which a worker needs; the line that installs it:\\n"
             "  %s -m pip install --no-deps %s" % (error.name, sys.executable, missing))
print("can")
"""
"""What another interpreter is asked; on stderr it says what is wrong."""

_DISTURBING_PREFIXES = ("PYTEST_", "TOX_")
_DISTURBING = frozenset(
    {
        "PYTHONPROFILEIMPORTTIME",
        "PYTHONTRACEMALLOC",
        "PYTHONMALLOC",
        "PYTHONDEVMODE",
        "PYTHONFAULTHANDLER",
        "PYTHONSTARTUP",
        "PYTHONINSPECT",
        "LD_PROFILE",
        "MALLOC_CHECK_",
        "MALLOC_PERTURB_",
    }
)


class WrongPython(BackendError):
    """An interpreter that no worker can run in; the message says why, and what to do."""


@functools.cache
def require_python(python: str) -> None:
    """Try whether another interpreter can run a worker, once. Raises WrongPython."""
    try:
        tried = subprocess.run(
            [python, "-c", _PROBE],
            env=child.importable(worker_environment(os.environ)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=_PROBE_S,
        )
    except subprocess.TimeoutExpired:
        raise WrongPython(f"{python} did not answer for {_PROBE_S:g} s: is it a Python?") from None
    except OSError as error:
        raise WrongPython(f"{python} cannot be started: {error.strerror}") from None
    if tried.stdout.strip() != "can":
        said = tried.stderr.strip()
        if not said.startswith(("is Python", "has no module")):
            last = said.rpartition("\n")[2][:_LAST_WORDS] or "it says nothing"
            said = f"is no Python that can run a worker: {last}"
        raise WrongPython(f"{python} {said}")


def worker_environment(user: Mapping[str, str]) -> dict[str, str]:
    """The user's variables less those that would disturb the measurement.

    Everything else is kept: device selection, thread counts, proxies, and what a CI runner needs
    to find the orphans of a job (``RUNNER_TRACKING_ID``). Models are never downloaded: Hugging Face
    libraries are told so.
    """
    kept = {
        name: value
        for name, value in user.items()
        if name not in _DISTURBING and not name.startswith(_DISTURBING_PREFIXES)
    }
    kept["PYTHONUNBUFFERED"] = "1"
    kept["PYTHONSAFEPATH"] = "1"
    kept.setdefault("HF_HUB_OFFLINE", "1")
    kept.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    kept.setdefault("TOKENIZERS_PARALLELISM", "false")
    kept.setdefault("VLLM_NO_USAGE_STATS", "1")
    return kept
