"""How does each token that ``generate`` hands out get its instant, of one batch or of a queue?

``generate`` decodes one tensor, so a queue is worked off batch after batch: statically.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused, Request
from pytest_llmperf.backends.queue import static_batches

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline
    from pytest_llmperf.backends.transformers import TransformersOptions


class TimelineStreamer:
    """A generation streamer that stamps tokens. Its first ``put`` is the prompt."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """Take what ``generate`` hands out: a host tensor."""
        if self._prompt_seen:
            self.step(value)
        self._prompt_seen = True

    def step(self, value: Any) -> None:
        """Stamp one step's tokens, of shape (batch,)."""
        if len(value) == 1:
            self._timeline.token(int(value[0]))
        else:
            self._timeline.step(value.tolist())

    def end(self) -> None:
        """Nothing is left to do when generation ends."""


def refuse_other_limit(options: TransformersOptions) -> None:
    """Raises EngineRefused for ``static_batch`` where batches are not static."""
    drafts = options.assistant_model or options.prompt_lookup_num_tokens
    if options.static_batch is not None and (options.batching is not None or drafts):
        raise EngineRefused(
            "static_batch is of a queue that is decoded batch after batch: leave it out beside "
            "what drafts tokens; batching=continuous has max_requests_per_batch instead"
        )


def generate_queue(
    request: Request,
    most: int | None,
    timeline: Timeline,
    generate: Callable[[Request, Any, Callable[[], None]], None],
) -> None:
    """Have ``generate`` decode batches of at most ``most`` requests, each until all of it is done.

    ``generate`` takes a batch, a streamer, and what starts the clock: the first batch does.
    """
    start = timeline.start
    for batch, places in static_batches(request, most):
        lengths = [request.lengths[place] for place in places]
        generate(batch, _QueueStreamer(timeline, places, lengths), start)
        start = _go_on


def _go_on() -> None:
    """The clock of the queue runs already."""


class _QueueStreamer(TimelineStreamer):
    """Stamps the steps of one batch; what a request gets beyond its length is of no use."""

    def __init__(self, timeline: Timeline, places: Sequence[int], lengths: Sequence[int]) -> None:
        super().__init__(timeline)
        self._places, self._lengths = places, lengths
        self._steps = 0

    def step(self, value: Any) -> None:
        """Stamp one step's tokens, of shape (batch,)."""
        self._steps += 1
        of_use = [
            (place, token)
            for place, length, token in zip(
                self._places, self._lengths, value.tolist(), strict=True
            )
            if length >= self._steps
        ]
        self._timeline.arrive(*zip(*of_use, strict=True))
