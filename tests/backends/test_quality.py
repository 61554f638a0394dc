"""Do engines tell how good their output is: near the truth when it is, far when it is broken?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_llmperf.measure.quality import Quality, summarize_quality
from pytest_llmperf.measure.scoring import read_passage, read_window
from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.models.gguf import read_gguf
from pytest_llmperf.texts import MEASURED
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load

pytestmark = pytest.mark.engine
TRAINED = "trained:small"
TIMEOUT_S = 120.0
TRAINING_S = 600.0


def told(model: LoadedModel, reference: LoadedModel | None = None) -> Quality:
    passage = read_passage(model, MEASURED, TIMEOUT_S)
    numbers = range(len(passage.windows))
    return summarize_quality(
        [read_window(model, passage, number, TIMEOUT_S, reference) for number in numbers]
    )


@pytest.fixture
def truth(load: Load) -> LoadedModel:
    """The trained model in float32."""
    return load("transformers", source=TRAINED, quantization="F32", timeout_s=TRAINING_S)


def test_the_trained_model_knows_more_english_than_random_weights(
    truth: LoadedModel, load: Load
) -> None:
    """Of 512 tokens, one that knows nothing finds all equally likely."""
    known = told(truth).perplexity.value
    random = told(load("llama-cpp", source="synthetic:llama-15m", quantization="F16"))
    assert known < 12
    assert random.perplexity.value > 1000


@pytest.mark.parametrize(
    ("engine", "quantization", "most"),
    [("llama-cpp", "F32", 1e-6), ("llama-cpp", "BF16", 1e-3), ("onnxruntime", "F32", 1e-6)],
)
def test_engines_agree_on_the_same_weights(
    engine: str, quantization: str, most: float, truth: LoadedModel, load: Load
) -> None:
    same = load(engine, source=TRAINED, quantization=quantization)
    found = told(same, truth)
    assert found.kl_divergence is not None
    assert found.top1_agreement is not None
    assert found.kl_divergence.value < most
    assert found.top1_agreement.value > 0.97


@pytest.mark.parametrize("engine", ["transformers", "onnxruntime"])
def test_packed_weights_are_farther_away_and_not_broken(
    engine: str, truth: LoadedModel, load: Load
) -> None:
    packed = {"quantize": "nf4"} if engine == "transformers" else {"quantization": "INT4"}
    found = told(load(engine, source=TRAINED, **packed), truth)
    assert found.kl_divergence is not None
    assert 1e-4 < found.kl_divergence.value < 0.1


def test_a_quantized_cache_is_read_from_and_tells(truth: LoadedModel, load: Load) -> None:
    """A prompt that is read in one piece is never read from the cache."""
    cache = {"cache_implementation": "quantized", "cache_nbits": 2, "cache_residual_length": 32}
    quantized = told(load("transformers", source=TRAINED, quantization="F32", **cache), truth)
    static = {"cache_implementation": "static"}
    same = told(load("transformers", source=TRAINED, quantization="F32", **static), truth)
    assert quantized.kl_divergence is not None
    assert same.kl_divergence is not None
    assert same.kl_divergence.value < 1e-6
    assert quantized.kl_divergence.value > 1e-3


def test_a_quantized_cache_of_llama_cpp_tells(load: Load) -> None:
    plain = load("llama-cpp", source=TRAINED, quantization="F16")
    found = told(load("llama-cpp", source=TRAINED, quantization="F16", type_k="q4_0"), plain)
    assert found.kl_divergence is not None
    assert found.kl_divergence.value > 1e-5


def test_a_layer_of_zeros_is_caught(load: Load, tmp_path: Path) -> None:
    """Fast, of the right size, and broken."""
    whole = Path(resolve(ModelSpec(TRAINED, "Q4_0"), "gguf").path)
    broken = tmp_path / "broken.gguf"
    shutil.copy(whole, broken)
    (tensor,) = (each for each in read_gguf(whole).tensors if each.name == "blk.1.ffn_down.weight")
    with broken.open("r+b") as file:
        file.seek(tensor.offset)
        file.write(bytes(tensor.bytes))
    reference = load("llama-cpp", source=TRAINED, quantization="F16")
    good = told(load("llama-cpp", source=str(whole)), reference)
    bad = told(load("llama-cpp", source=str(broken)), reference)
    assert good.kl_divergence is not None
    assert bad.kl_divergence is not None
    assert bad.kl_divergence.value > 10 * good.kl_divergence.value
    assert bad.perplexity.value > 1.05 * good.perplexity.value


def test_what_has_no_tokenizer_is_refused(load: Load, tmp_path: Path) -> None:
    whole = Path(resolve(ModelSpec(TRAINED, "F32"), "hf").path)
    for each in whole.iterdir():
        if not each.name.startswith("tokenizer"):
            (tmp_path / each.name).symlink_to(each)
    model = load("transformers", source=str(tmp_path))
    with pytest.raises(EngineRefusal, match="has no tokenizer"):
        read_passage(model, MEASURED, TIMEOUT_S)
