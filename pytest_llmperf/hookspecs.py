"""What may other plugins add to this one?"""

from __future__ import annotations

from collections.abc import Mapping


def pytest_llmperf_backends() -> Mapping[str, str]:  # type: ignore[empty-body] # a specification
    """Backends of your own: name → ``module:Class``.

    Asked when pytest is configured, before options are read, of plugins and of the first
    conftest.py. The module must be importable in a fresh interpreter, for each worker imports it.
    docs/backends.md shows one.
    """
