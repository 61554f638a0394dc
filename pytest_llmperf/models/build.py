"""What does the builder's process do, from its one argument to its last line?"""

from __future__ import annotations

import errno
import functools
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pytest_llmperf import child
from pytest_llmperf.models.architecture import MODEL_TYPES, lay_out
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.errors import ModelError, NoSpace, RequirementMissing, UnsupportedModel
from pytest_llmperf.models.messages import Answer, BuildTask, Done, Failed, Progress
from pytest_llmperf.models.quantization import find_quantization
from pytest_llmperf.models.trained import find_recipe, training_text

if TYPE_CHECKING:
    from pytest_llmperf.models.writers.weights import Draw

_SMALLEST_STEP = 0.01


def main() -> int:
    """Build what the task says; answer on standard output; return the exit code."""
    child.die_with_parent()
    answers = _take_standard_output()
    task = msgspec.json.decode(sys.argv[1], type=BuildTask)

    def say(answer: Answer) -> None:
        os.write(answers, msgspec.json.encode(answer) + b"\n")

    try:
        _build(task, say)
    except ModelError as error:
        say(Failed(type(error).__name__, str(error)))
    except ModuleNotFoundError as error:
        text = f"building {task.name} as {task.format} {task.quantization} needs {error.name}: "
        say(Failed(RequirementMissing.__name__, text + _install_line(error.name or "")))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        say(Failed(NoSpace.__name__, f"the disk became full while writing {task.folder}."))
    else:
        say(Done())
    return 0


def _take_standard_output() -> int:
    """Keep the pipe for answers; whatever engines print to it goes to standard error."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _build(task: BuildTask, say: Callable[[Answer], None]) -> None:
    config = ModelConfig(task.origin, task.config)
    if task.format == "gguf":
        _build_gguf(task, config, say)
    elif task.format == "onnx":
        _build_onnx(task, say)
    elif config.model_type in MODEL_TYPES:
        from pytest_llmperf.models.writers import hf_folder

        folder = Path(task.folder)
        hf_folder.write_side_files(folder, config, task.quantization)
        if task.recipe is not None:
            from pytest_llmperf.models.writers.trainer import train

            recipe = find_recipe(task.recipe)
            train(folder, config, recipe, training_text(), task.seed, _steps(say, "training"))
            return
        hf_folder.write_weights(
            folder, lay_out(config), task.quantization, _draw(task), _steps(say, "weights")
        )
    else:
        from pytest_llmperf.models.writers import any_folder

        say(Progress("weights", 0.0))
        any_folder.write_any_folder(Path(task.folder), config, task.seed, task.quantization)


def _build_onnx(task: BuildTask, say: Callable[[Answer], None]) -> None:
    from pytest_llmperf.models.writers import onnx_folder

    with tempfile.TemporaryDirectory(dir=task.folder) as base:
        plain = msgspec.structs.replace(task, format="hf", quantization="BF16", folder=base)
        _build(plain, say)
        say(Progress("converting", 0.0))
        onnx_folder.write_onnx_folder(Path(base), Path(task.folder), task.quantization)


def _build_gguf(task: BuildTask, config: ModelConfig, say: Callable[[Answer], None]) -> None:
    from pytest_llmperf.models.writers import gguf_file

    architecture = lay_out(config)
    if architecture.gguf_obstacle:
        raise UnsupportedModel(
            f"{config.origin} cannot be written as GGUF: {architecture.gguf_obstacle}. "
            "Use format hf."
        )
    target = Path(task.folder) / f"{task.name}-{task.quantization}.gguf"
    quantization, draw = find_quantization(task.quantization), _draw(task)
    if quantization.is_plain:
        gguf_file.write_gguf(
            target, architecture, task.name, quantization.name, draw, _steps(say, "weights")
        )
        return
    from pytest_llmperf.models.writers import quantizer

    base = Path(task.base_gguf) if task.base_gguf else Path(task.folder) / "unquantized.gguf"
    if not task.base_gguf:
        gguf_file.write_gguf(base, architecture, task.name, "BF16", draw, _steps(say, "weights"))
    quantizer.quantize(base, target, quantization, _steps(say, "quantizing"))
    if not task.base_gguf:
        base.unlink()


def _draw(task: BuildTask) -> Draw:
    """Where the numbers come from: a file of weights, or the seed."""
    from pytest_llmperf.models.writers.weights import generate, stored

    if task.weights is not None:
        return functools.partial(stored, path=Path(task.weights))
    return functools.partial(generate, seed=task.seed)


def _steps(say: Callable[[Answer], None], stage: str) -> Callable[[float], None]:
    """Pass on progress, but not more than a hundred lines of it."""
    last = -1.0

    def progress(fraction: float) -> None:
        nonlocal last
        if fraction - last >= _SMALLEST_STEP or fraction >= 1.0 > last:
            last = fraction
            say(Progress(stage, fraction))

    return progress


def _install_line(module: str) -> str:
    extra = {"llama_cpp": "llama-cpp", "torch": "transformers", "transformers": "transformers"}
    extra |= dict.fromkeys(("onnx", "onnx_ir", "onnxruntime_genai"), "onnxruntime")
    name = extra.get(module.partition(".")[0])
    wanted = f"'pytest-llmperf[{name}]'" if name else module
    return f"pip install {wanted}"


if __name__ == "__main__":
    sys.exit(main())
