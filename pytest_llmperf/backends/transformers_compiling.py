"""Is the model's decode step compiled, and does it stay so?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused

if TYPE_CHECKING:
    from pytest_llmperf.backends.transformers import TransformersOptions


def compiling(options: TransformersOptions) -> dict[str, Any]:
    """Settings of ``GenerationConfig`` that compile, or keep transformers from it.

    Raises EngineRefused for what it would silently not compile.
    """
    if not options.compile:
        return {"disable_compile": True}  # on a GPU a static cache would compile by itself
    import torch._dynamo
    import torch._inductor.config
    import transformers

    if options.cache_implementation != "static":
        raise EngineRefused("compile needs cache_implementation='static'")
    # Instead of going on uncompiled, and unsaid, after too many sizes of requests:
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    # Processes that wait for more to compile would count as the engine's memory.
    torch._inductor.config.compile_threads = 1
    config = transformers.CompileConfig()
    config._compile_all_devices = True
    return {"compile_config": config}


def compiled_graphs() -> int:
    """How many graphs torch has compiled in this process."""
    import torch._dynamo.utils

    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def graph_breaks() -> int:
    """At how many places the model fell back to Python."""
    import torch._dynamo.utils

    return sum(torch._dynamo.utils.counters["graph_break"].values())
