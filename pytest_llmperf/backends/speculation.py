"""What is said of an engine that decodes several tokens a step, because they were drafted?"""

from __future__ import annotations

import sys

CAVEAT = (
    "several tokens a step: how many drafted tokens are right depends on the text; random prompts, "
    "and random weights, do not tell it for yours"
)


def write_acceptance(new_tokens: int, steps: int, drafted_tokens: int) -> None:
    """Write to the worker's log what came of the drafts of one request.

    Each step gives the token that the model itself chose, and those of the draft that it would
    have chosen before.
    """
    print(
        f"speculation: {new_tokens} tokens in {steps} steps, {new_tokens - steps} of "
        f"{drafted_tokens} drafted tokens accepted",
        file=sys.stderr,
        flush=True,
    )
