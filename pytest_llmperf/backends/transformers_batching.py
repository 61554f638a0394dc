"""How are the steps of transformers' continuous batching timed, which a thread of its own takes?

``generate_batch`` returns when all is done. Beneath it a manager hands each step's tokens to a
router, in the thread that computes: a router of ours takes the instant there.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused, Request

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline
    from pytest_llmperf.backends.transformers import TransformersOptions

_SIZES = {"page_size": 256, "num_blocks": 32, "max_batch_tokens": 8192,
          "max_requests_per_batch": 1024}  # fmt: skip
"""What is taken when nothing is said: transformers itself would take most of the memory."""
_LOOK_S = 1.0


def asks_for_continuous(options: TransformersOptions) -> bool:
    """Whether requests go through the manager. Raises EngineRefused for what excludes that."""
    if options.batching is None:
        for name in _SIZES:
            if getattr(options, name) is not None:
                raise EngineRefused(f"{name} needs batching='continuous'")
        return False
    drafts = options.assistant_model or options.prompt_lookup_num_tokens
    if options.cache_implementation != "dynamic" or options.compile or drafts:
        raise EngineRefused(
            "batching=continuous has a paged cache and a loop of its own: leave out "
            "cache_implementation, compile and what drafts tokens"
        )
    return True


class ContinuousBatching:
    """The manager of one model, its thread running, and its cache of a fixed size."""

    def __init__(self, model: Any, options: TransformersOptions) -> None:
        """Start it. Raises ValueError for a model that transformers does not take."""
        import transformers

        given = {name: getattr(options, name) for name in _SIZES}
        self.in_force = {name: size or _SIZES[name] for name, size in given.items()}
        self._manager: Any = model.init_continuous_batching(
            generation_config=transformers.GenerationConfig(
                do_sample=False, num_beams=1, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=transformers.ContinuousBatchingConfig(
                allow_block_sharing=False,  # it would reuse what an earlier request has read
                use_async_batching=False,
                auto_switch_to_flash=False,
                **self.in_force,
            ),
        )
        self._steps = _Steps()
        self._manager.output_router = self._steps
        self._manager.warmup()
        self._manager.start()

    @property
    def cache_tokens(self) -> int:
        """Tokens that all sequences together may take."""
        return self.in_force["page_size"] * self.in_force["num_blocks"]

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Decode a batch. Raises EngineRefused, RuntimeError when the manager failed."""
        if request.depth:
            raise EngineRefused("batching=continuous cannot read tokens ahead: ask for depth=0")
        self._refuse_too_much(request)
        steps = self._steps
        lengths = request.lengths or [request.new_tokens] * request.batch
        with self._manager.pause():  # so that no sequence begins before the others are there
            timeline.start()
            ids = [
                self._manager.add_request(prompt, max_new_tokens=length, streaming=True)
                for prompt, length in zip(request.prompts, lengths, strict=True)
            ]
            steps.begin(timeline, ids, in_step=not request.lengths)
        while not steps.done.wait(_LOOK_S):
            if not self._manager.is_running():
                raise RuntimeError("the thread of continuous batching ended; its log says why")
        if steps.failure is not None:
            raise RuntimeError(f"continuous batching failed: {steps.failure}")

    def _refuse_too_much(self, request: Request) -> None:
        page = self.in_force["page_size"]
        at_once = min(request.batch, self.in_force["max_requests_per_batch"])
        blocks = at_once * -(-request.total_tokens // page)
        if blocks > self.in_force["num_blocks"]:
            raise EngineRefused(
                f"{at_once} × {request.total_tokens} tokens need {blocks} blocks of {page}, "
                f"there are num_blocks={self.in_force['num_blocks']}: load with more"
            )
        prompts = request.batch * len(request.prompts[0])
        if request.lengths:
            return
        if prompts > self.in_force["max_batch_tokens"]:
            raise EngineRefused(
                f"prompts of {prompts} tokens would not be read in one step, and their sequences "
                "not decode in step: load with max_batch_tokens="
                f"{prompts}, not {self.in_force['max_batch_tokens']}"
            )

    def close(self) -> None:
        """End the thread and give the cache back."""
        self._manager.stop(block=True)
        self._manager.destroy()


class _Steps:
    """Takes the place of transformers' router of outputs; called in the thread that computes."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.failure: str | None = None
        self._timeline: Timeline | None = None
        self._ids: Sequence[str] = ()
        self._in_step = True
        self._unfinished = 0

    def begin(self, timeline: Timeline, ids: Sequence[str], *, in_step: bool = True) -> None:
        """A request of these sequences is about to be computed, ``in_step`` or a queue of them."""
        self._timeline, self._ids, self._in_step = timeline, ids, in_step
        self._unfinished = len(ids)
        self.failure = None
        self.done.clear()

    def deliver_batch(self, outputs: Sequence[Any]) -> None:
        """Stamp a step: what each sequence has so far."""
        timeline, so_far = self._timeline, {each.request_id: each for each in outputs}
        assert timeline is not None
        if not self._in_step:
            timeline.arrive(
                [self._ids.index(each.request_id) for each in outputs],
                [each.generated_tokens[-1] for each in outputs],
            )
        elif so_far.keys() != set(self._ids):
            timeline.reject(
                f"sequences did not decode in step: {len(so_far)} of {len(self._ids)} got a token"
            )
        elif len(self._ids) == 1:
            timeline.token(outputs[0].generated_tokens[-1])
        else:
            timeline.step([so_far[each].generated_tokens[-1] for each in self._ids])
        self._unfinished -= sum(each.is_finished() for each in outputs)
        if not self._unfinished:
            self.done.set()

    def deliver(self, output: Any) -> None:
        """Outside of steps only failures are delivered."""
        self.failure = str(output.error)
        self.done.set()

    def fail_and_deliver(self, state: Any, error: Exception) -> None:
        """The loop could not do it."""
        del state
        self.failure = str(error)
        self.done.set()
