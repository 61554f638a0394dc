"""What must be known about pytest-xdist? The only file that knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

_FOLDER = "llmperf_folder"


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for a controller, which then does the reporting."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Whether this process only distributes tests."""
    return not is_worker(config) and bool(config.getoption("dist", "no") != "no")


def folder_from_controller(config: pytest.Config) -> Path | None:
    """The run's folder as the controller chose it, with a part of it for this worker."""
    if not is_worker(config):
        return None
    worker_input: dict[str, Any] = config.workerinput  # type: ignore[attr-defined] # set by xdist
    return Path(worker_input[_FOLDER]) / str(worker_input["workerid"])


class TellFolder:
    """Registered in the controller: passes the run's folder on to each worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Xdist is about to start a worker."""
        node.workerinput[_FOLDER] = str(self._folder)
