"""Which of the user's environment variables reach a worker?"""

from __future__ import annotations

from collections.abc import Mapping

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


def worker_environment(user: Mapping[str, str]) -> dict[str, str]:
    """The user's variables less those that would disturb the measurement.

    Everything else is kept: device selection, thread counts, proxies, and what a CI runner needs
    to find the orphans of a job (``RUNNER_TRACKING_ID``).
    """
    kept = {
        name: value
        for name, value in user.items()
        if name not in _DISTURBING and not name.startswith(_DISTURBING_PREFIXES)
    }
    kept["PYTHONUNBUFFERED"] = "1"
    kept["PYTHONSAFEPATH"] = "1"
    kept.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    kept.setdefault("TOKENIZERS_PARALLELISM", "false")
    return kept
