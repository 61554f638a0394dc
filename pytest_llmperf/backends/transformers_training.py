"""One training step of a transformers model as a request: how long, how much memory?

The one token of a request is stamped when the step has ended: ``ttft`` is the step's time,
``prefill_tps`` the tokens trained in a second, and the memory of the prefill phase the step's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from pytest_llmperf.backends.protocol import (
    BackendOptions,
    EngineFacts,
    EngineRefused,
    Request,
)
from pytest_llmperf.backends.timeline import UNKNOWN
from pytest_llmperf.backends.torch_engine import TorchEngine
from pytest_llmperf.backends.transformers import Transformers
from pytest_llmperf.backends.transformers_placement import choose_device, gpus_of
from pytest_llmperf.backends.transformers_weights import read_model, torch_build
from pytest_llmperf.hardware import usable_cores
from pytest_llmperf.models import ModelFiles

if TYPE_CHECKING:
    from pytest_llmperf.backends.timeline import Timeline

_LEARNING_RATE = 1e-4
_TRIAL = [[1, 2, 3, 4, 5, 6, 7, 8]]
_MOST_DIFFERENCE = 0.01
"""Of a gradient that was computed from the same numbers twice, as a share of its largest one."""
_CAVEAT = "a request is a training step: the first token is its end, and prefill is its tokens"


class TrainingOptions(BackendOptions, frozen=True, kw_only=True):
    """Options of ``load_model(..., backend="transformers-training")``."""

    gradient_checkpointing: bool = False
    """Keep what enters each layer only, and run the layer once more on the way back."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "float32"
    """Of weights and gradients; auto: as in the file. A small step is lost on a short type."""
    attn_implementation: str = "sdpa"
    device: str = "auto"
    """``cpu``, ``cuda``, ``mps``, ``cuda:1``; auto: the first accelerator, else the CPU."""
    num_threads: int | None = None
    """Threads of torch on the CPU; None: the cores this process may use."""

    def gpus(self) -> int | None:
        """One."""
        return gpus_of(self.device)


class TransformersTraining(Transformers):
    """The backend of training steps."""

    name: ClassVar[str] = "transformers-training"
    options_type: ClassVar[type[BackendOptions]] = TrainingOptions

    def load(self, model: ModelFiles | None, options: BackendOptions, invocation: int) -> Any:
        """Load a model folder. Raises EngineRefused."""
        del invocation
        assert model is not None
        assert isinstance(options, TrainingOptions)
        return TrainingEngine(model, options)


class TrainingEngine(TorchEngine):
    """A causal language model whose every weight is trained."""

    def __init__(self, model: ModelFiles, options: TrainingOptions) -> None:
        import torch

        self._torch = torch
        self._options = options
        torch.set_num_threads(options.num_threads or usable_cores())
        self._device = choose_device(torch, options.device)
        self._model = read_model(model.path, options).to(self._device).train()
        self._difference = self._checkpoint() if options.gradient_checkpointing else None

    def _checkpoint(self) -> float:
        """Turn it on and see it at work: the gradients' largest difference from those without.

        Raises EngineRefused where no layer is run again, or the gradients are others, or no finite
        numbers.
        """
        inputs = self._tensor(_TRIAL)
        self._try(inputs)
        plain = {weight: weight.grad for weight in self._model.parameters()}
        self._forget()
        try:
            self._model.gradient_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise EngineRefused(f"gradient_checkpointing=true: {error}") from error
        differences: list[float] = []

        def compare(weight: Any) -> None:
            """At once, so that no second copy of all gradients is held."""
            before, now = plain.pop(weight), weight.grad
            largest = float(before.abs().max()) or 1.0
            differences.append(float((now - before).abs().max()) / largest)
            weight.grad = None

        watches = [each.register_post_accumulate_grad_hook(compare) for each in plain]
        with counting(self._model) as runs:
            self._try(inputs)
        for watch in watches:
            watch.remove()
        if not runs or any(count != 2 for count in runs.values()):
            raise EngineRefused(
                "gradient_checkpointing=true, but a step did not run every layer twice: "
                f"{list(runs.values())} runs of {len(runs)} layers"
            )
        return _require_same(differences, sum(each is not None for each in plain.values()))

    def _try(self, inputs: Any) -> None:
        """Gradients of a trial: what dropout leaves out by chance is the same in each."""
        with self._torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            self._torch.manual_seed(0)
            self._gradients(inputs)

    def facts(self) -> EngineFacts:
        """Describe the engine, with what checkpointing did to the gradients."""
        config, on_cpu = self._model.config, self._device.type == "cpu"
        in_force = msgspec.structs.replace(
            self._options,
            device=str(self._device),
            num_threads=int(self._torch.get_num_threads()),
            attn_implementation=str(config._attn_implementation),
        )
        options = msgspec.to_builtins(in_force)
        options["dtype"] = str(self._model.dtype).removeprefix("torch.")
        if self._difference is not None:
            options["gradient_difference"] = self._difference
        return EngineFacts(
            vocab_size=int(self._model.get_input_embeddings().weight.shape[0]),
            context_tokens=int(getattr(config, "max_position_embeddings", None) or 2**31),
            options=options,
            build=torch_build(self._torch),
            device=str(self._device),
            threads=int(self._torch.get_num_threads()) if on_cpu else None,
            weight_element_bytes=float(self._model.dtype.itemsize),
            not_prefill="a request is a training step, which computes more than its prompt",
            caveats=[_CAVEAT],
        )

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Train one step on the prompts. Raises EngineRefused for more than one new token."""
        if request.new_tokens != 1 or request.depth:
            raise EngineRefused(
                "a request to transformers-training is one training step on its prompts: ask for "
                "new_tokens=1 and depth=0"
            )
        inputs = self._tensor(request.prompts)
        self._settle()
        timeline.start()
        loss = self._gradients(inputs)
        self._descend()
        self._settle()
        if request.batch == 1:
            timeline.token(UNKNOWN)
        else:
            timeline.step([UNKNOWN] * request.batch)
        self._look_into(float(loss), timeline)

    def _look_into(self, loss: float, timeline: Timeline) -> None:
        """Write the loss to the worker's log; reject a step that made no finite numbers."""
        print(f"loss: {loss:.9g}", file=sys.stderr, flush=True)
        if not math.isfinite(loss):
            timeline.reject(f"the loss of this training step is {loss}")
        elif not all(bool(weight.isfinite().all()) for weight in self._model.parameters()):
            timeline.reject("this training step left weights that are no finite numbers")

    def _tensor(self, prompts: list[list[int]]) -> Any:
        return self._torch.tensor(prompts, dtype=self._torch.long, device=self._device)

    def _gradients(self, inputs: Any) -> Any:
        """Forward, the loss of telling each token from those before it, and backward.

        The loss, of one element, on the device.
        """
        loss = self._model(input_ids=inputs, labels=inputs, use_cache=False).loss
        loss.backward()
        return loss.detach()

    def _descend(self) -> None:
        """Plain gradient descent: what an optimizer keeps is the same with checkpointing."""
        with self._torch.no_grad():
            for weight in self._model.parameters():
                if weight.grad is not None:
                    weight.add_(weight.grad, alpha=-_LEARNING_RATE)
        self._forget()

    def _forget(self) -> None:
        """Give the gradients' memory back."""
        self._model.zero_grad(set_to_none=True)


def _require_same(differences: list[float], left_out: int) -> float:
    """The largest of the gradients' differences, as a share; ``left_out`` weights got no gradient.

    Raises EngineRefused.
    """
    if not all(map(math.isfinite, differences)):
        raise EngineRefused(
            "gradient_checkpointing=true cannot be compared with a step without it: gradients of "
            "a trial are no finite numbers. Load with dtype='float32', or another model"
        )
    largest = max(differences, default=0.0)
    if largest > _MOST_DIFFERENCE or left_out:
        raise EngineRefused(
            f"gradient_checkpointing=true changes gradients by {largest:.2g} of their largest, "
            f"and leaves out {left_out}"
        )
    return largest


@contextmanager
def counting(model: Any) -> Iterator[dict[int, int]]:
    """How often each layer that can be checkpointed was begun, told by the first part it runs.

    The layer's own hooks stay outside of what is run again, and its last part is not run again
    to the end, because nothing on the way back needs what it gives.
    """
    layers = [each for each in model.modules() if getattr(each, "gradient_checkpointing", False)]
    layers = [each for each in layers if each is not model and not _holds_one(each)]
    runs = dict.fromkeys(range(len(layers)), 0)
    first: dict[int, Any] = {}

    def begin(number: int, part: Any) -> None:
        if first.setdefault(number, part) is part:
            runs[number] += 1

    watches = [
        part.register_forward_pre_hook(lambda part, _, number=number: begin(number, part))
        for number, layer in enumerate(layers)
        for part in layer.modules()
        if part is not layer
    ]
    yield runs
    for watch in watches:
        watch.remove()


def _holds_one(module: Any) -> bool:
    """Whether it holds others that are checkpointed, as the whole of the layers does."""
    others = (each for each in module.modules() if each is not module)
    return any(getattr(each, "gradient_checkpointing", False) for each in others)
