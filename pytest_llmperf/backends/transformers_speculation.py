"""How does transformers decode several tokens a step, and how many of those drafted were right?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused
from pytest_llmperf.backends.speculation import write_acceptance
from pytest_llmperf.backends.transformers_streaming import TimelineStreamer
from pytest_llmperf.backends.transformers_weights import read_model

if TYPE_CHECKING:
    from pytest_llmperf.backends.transformers import TransformersOptions


def asks_for_speculation(options: TransformersOptions) -> bool:
    """Whether a step may give several tokens. Raises EngineRefused for halves of an option."""
    by_assistant = options.assistant_model is not None
    by_lookup = options.prompt_lookup_num_tokens is not None
    if by_assistant and by_lookup:
        raise EngineRefused(
            "assistant_model and prompt_lookup_num_tokens both draft tokens: leave one out"
        )
    for name in ("num_assistant_tokens", "assistant_confidence_threshold"):
        if not by_assistant and getattr(options, name) is not None:
            raise EngineRefused(f"{name} needs an assistant_model")
    if not by_lookup and options.max_matching_ngram_size is not None:
        raise EngineRefused("max_matching_ngram_size needs prompt_lookup_num_tokens")
    if (by_assistant or by_lookup) and options.cache_implementation != "dynamic":
        raise EngineRefused(
            f"cache_implementation={options.cache_implementation} cannot take drafted tokens back: "
            "leave it out, or what drafts"
        )
    return by_assistant or by_lookup


class Speculation:
    """What drafts tokens for a model, and the count of those that it got right."""

    def __init__(self, model: Any, options: TransformersOptions) -> None:
        """Load the assistant, if it is one that drafts. Raises EngineRefused."""
        self._assistant = None
        self._tokens_read = 0
        self._hook = model.register_forward_pre_hook(self._count, with_kwargs=True)
        if options.assistant_model is not None:
            self._assistant = _load_assistant(model, options)
        else:
            settings = model.generation_config
            settings.prompt_lookup_num_tokens = options.prompt_lookup_num_tokens
            settings.max_matching_ngram_size = options.max_matching_ngram_size or 2

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``generate`` takes beside its usual arguments."""
        return {} if self._assistant is None else {"assistant_model": self._assistant}

    @property
    def in_force(self) -> dict[str, Any]:
        """The options that were not given, as they are."""
        if self._assistant is None:
            return {}
        settings = self._assistant.generation_config
        return {
            "num_assistant_tokens": settings.num_assistant_tokens,
            "assistant_confidence_threshold": settings.assistant_confidence_threshold,
        }

    def _count(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        del module, args
        self._tokens_read += int(kwargs["input_ids"].shape[-1])

    def begin(self) -> None:
        """Count anew: a request begins."""
        self._tokens_read = 0

    def report(self, prompt_tokens: int, chunk_tokens: list[int]) -> None:
        """Write to the worker's log what came of the drafts of the request that ended."""
        steps, new = len(chunk_tokens), sum(chunk_tokens)
        # A step reads the token before its draft, the first one the prompt.
        write_acceptance(new, steps, self._tokens_read - prompt_tokens - (steps - 1))

    def close(self) -> None:
        """Drop the assistant."""
        self._hook.remove()
        self._assistant = None


def _load_assistant(model: Any, options: TransformersOptions) -> Any:
    import transformers

    folder = Path(str(options.assistant_model))
    if not (folder / "config.json").is_file():
        raise EngineRefused(
            f"assistant_model={folder} is not a folder with a config.json: give the path of a "
            "model's folder on this machine"
        )
    assistant = read_model(str(folder), options)
    ours, theirs = (each.config.get_text_config().vocab_size for each in (model, assistant))
    if ours != theirs:
        raise EngineRefused(
            f"assistant_model={folder} has {theirs} tokens in its vocabulary, the model {ours}: "
            "it must have the same"
        )
    usual = transformers.GenerationConfig._get_default_generation_params()
    settings = {
        name: usual[name] if getattr(options, name) is None else getattr(options, name)
        for name in ("num_assistant_tokens", "assistant_confidence_threshold")
    }
    assistant.generation_config = transformers.GenerationConfig(
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        num_assistant_tokens_schedule="constant",  # the others learn from earlier requests
        **settings,
    )
    return assistant.to(model.device).eval()


class ChunkStreamer(TimelineStreamer):
    """Stamps what a step gave."""

    def step(self, value: Any) -> None:
        """Stamp a step's tokens, of shape (1, tokens). Raises EngineRefused."""
        if value.dim() == 1:
            raise EngineRefused("transformers decodes token by token, though drafts were asked for")
        self._timeline.chunk(value[0].tolist())
