"""How does one request after another get to the worker and back?"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Literal

from pytest_llmperf.measure.passages import Passages
from pytest_llmperf.measure.reading import SHIPPED, BadText, find_text, read_text, tokens_of
from pytest_llmperf.measure.workload import RANDOM, Workload
from pytest_llmperf.models.spec import TRAINED
from pytest_llmperf.models.trained import unread_text
from pytest_llmperf.worker.errors import WorkerGarbled
from pytest_llmperf.worker.messages import Generate, Generated
from pytest_llmperf.worker.pool import LoadedModel

Progress = Callable[[str], None]


class Requests:
    """The requests of one measurement, each with prompts of its own. Raises BadText, WorkerError.

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
        self._text = self._read()

    def _read(self) -> Passages | None:
        """What prompts are taken from; None: they are random."""
        asked = self._workload
        if asked.prompts == RANDOM:
            return None
        self._tell("reads the text of the prompts")
        text = read_text(find_text(asked.prompts))
        if asked.prompts == SHIPPED and self._model.loading.spec.source.startswith(TRAINED):
            text = unread_text()  # the rest it knows by heart
        tokens = tokens_of(self._model, text, self._timeout_s)
        return Passages(tokens.ids, tokens.begin)

    def _refuse_what_is_read_out(self) -> None:
        """Raises BadText where the text has too few passages for the next request."""
        asked = self._workload
        if self._text is None:
            return
        count = self._text.count(asked.prompt_length)
        if count < (self._sent + 1) * asked.batch:
            raise BadText(
                f"text {asked.prompts} has {len(self._text.ids)} tokens, and so {count} prompts of "
                f"{asked.prompt_length}: too few for request {self._sent + 1} of a batch of "
                f"{asked.batch}. Give a longer text, or ask for shorter prompts"
            )

    def send(
        self, what: str, observe: Literal["nothing", "usage", "memory"] = "nothing"
    ) -> Generated:
        """Send the next request; ``what`` is shown, and named when the worker dies of it.

        Raises WorkerError, also for an answer of another kind.
        """
        self._refuse_what_is_read_out()
        request = self._workload.request(
            self._sent, self._model.engine.vocab_size, self._salt, self._text
        )
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
