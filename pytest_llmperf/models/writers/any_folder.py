"""How is a model of an architecture that only transformers knows written as a folder?"""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.errors import UnsupportedModel
from pytest_llmperf.models.writers.hf_folder import TORCH_NAMES, write_side_files


def write_any_folder(folder: Path, config: ModelConfig, seed: int, kind: str) -> None:
    """Write the model with transformers' own random initialization, seeded.

    Unlike the architectures we write ourselves, the whole model is in memory once. Raises
    UnsupportedModel when transformers cannot make a causal language model of the config.
    """
    write_side_files(folder, config, kind)
    torch.manual_seed(seed)
    try:
        settings = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model = transformers.AutoModelForCausalLM.from_config(
            settings, dtype=getattr(torch, TORCH_NAMES[kind]), trust_remote_code=False
        )
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UnsupportedModel(
            f"{config.origin}: transformers {transformers.__version__} makes no causal language "
            f"model of model_type {config.model_type!r}: {first}"
        ) from error
    model.save_pretrained(folder, max_shard_size="1TB")
    write_side_files(folder, config, kind)
