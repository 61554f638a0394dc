"""How do a folder's weights become a model of transformers, and what can this torch compute on?"""

from __future__ import annotations

from typing import Any, Protocol

from pytest_llmperf.backends.protocol import EngineRefused


class WeightOptions(Protocol):
    """What a backend's options say of it."""

    @property
    def dtype(self) -> str:
        """Element type in memory; ``auto``: as in the file."""
        ...

    @property
    def attn_implementation(self) -> str:
        """As transformers names it."""
        ...


def read_model(path: str, options: WeightOptions, more: dict[str, Any] | None = None) -> Any:
    """A causal language model. Raises EngineRefused with transformers' own reason.

    ``more``: further arguments of ``from_pretrained``. Neither code nor pickles of the folder run.
    """
    import transformers

    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            path,
            dtype=options.dtype,
            attn_implementation=options.attn_implementation,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **(more or {}),
        )
    except (ValueError, ImportError, OSError) as error:
        raise EngineRefused(f"transformers could not load {path}: {error}") from error


def torch_build(torch: Any) -> str:
    """Version of torch, and what this build of it can compute on."""
    toolkits = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    gpus = [f"{name} {version}" for name, version in toolkits.items() if version]
    mps = ["MPS"] if torch.backends.mps.is_built() else []
    cpu = f"CPU {torch.backends.cpu.get_cpu_capability()}"
    return f"torch {torch.__version__} for {' and '.join([*gpus, *mps, cpu])}"
