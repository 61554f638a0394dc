"""Which requests of a queue are decoded together?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_llmperf.backends.protocol import Request


def static_batches(request: Request, most: int | None) -> Iterator[tuple[Request, list[int]]]:
    """Batches of at most ``most`` requests as they stand in the queue, with their places in it.

    Each is decoded until its longest request is done. ``most=None``: all at once.
    """
    step = most or request.batch
    for begin in range(0, request.batch, step):
        places = list(range(begin, min(begin + step, request.batch)))
        prompts = [request.prompts[place] for place in places]
        longest = max(request.lengths[place] for place in places)
        yield Request(prompts=prompts, new_tokens=longest), places


def static_steps(lengths: Sequence[int], most: int) -> list[list[int]]:
    """The requests that get a token of use in each step: a batch ends with its longest."""
    return [
        [place for place in range(begin, begin + len(batch)) if lengths[place] > step]
        for begin in range(0, len(lengths), most)
        for batch in (lengths[begin : begin + most],)
        for step in range(max(batch))
    ]


def continuous_steps(lengths: Sequence[int], most: int) -> list[list[int]]:
    """The same where the next request begins as soon as one has ended."""
    left, waiting = dict(enumerate(lengths)), list(range(len(lengths)))
    steps, active = [], list[int]()
    while waiting or active:
        active += [waiting.pop(0) for _ in range(min(most - len(active), len(waiting)))]
        steps.append(active)
        for place in active:
            left[place] -= 1
        active = [place for place in active if left[place]]
    return steps
