"""How does one request after another get to the worker and back?"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Literal

from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.worker.errors import WorkerGarbled
from pytest_llmperf.worker.messages import Generate, Generated
from pytest_llmperf.worker.pool import LoadedModel

Progress = Callable[[str], None]


class Requests:
    """The requests of one measurement, each with prompts of its own.

    A server that was met keeps what it read, also from an earlier session: it gets prompts that no
    measurement before had.
    """

    def __init__(
        self,
        model: LoadedModel,
        workload: Workload,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> None:
        self._model, self._workload = model, workload
        self._timeout_s = timeout_s
        self._progress = progress
        self._sent = 0
        self._salt = secrets.token_hex(8) if model.engine.server == "met" else ""

    def send(
        self, what: str, observe: Literal["nothing", "usage", "memory"] = "nothing"
    ) -> Generated:
        """Send the next request; ``what`` is shown, and named when the worker dies of it.

        Raises WorkerError, also for an answer of another kind.
        """
        request = self._workload.request(self._sent, self._model.engine.vocab_size, self._salt)
        self._sent += 1
        self._model.requests += 1
        self._tell(what)
        answer = self._model.worker.ask(
            Generate(request=request, observe=observe),
            self._timeout_s,
            lambda phase: self._tell(f"{what}, {phase}"),
            purpose=what,
        )
        if not isinstance(answer, Generated):
            raise WorkerGarbled(f"the worker answered Generate with {type(answer).__name__}")
        return answer

    def _tell(self, what: str) -> None:
        if self._progress is not None:
            self._progress(what)
