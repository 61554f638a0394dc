"""Do engines tell how good their output is: near the truth when it is, far when it is broken?"""

from __future__ import annotations

import math
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from pytest_llmperf.measure.quality import Quality, summarize_quality
from pytest_llmperf.measure.reference import LoadedReference
from pytest_llmperf.measure.scoring import read_logits, read_passage, read_window
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
    beside = None if reference is None else LoadedReference(reference, MEASURED, TIMEOUT_S)
    return summarize_quality(
        [read_window(model, passage, number, TIMEOUT_S, beside) for number in numbers]
    )


@pytest.fixture
def truth(load: Load) -> LoadedModel:
    """The trained model in float32."""
    return load("transformers", source=TRAINED, quantization="F32", timeout_s=TRAINING_S)


def test_the_trained_model_knows_more_english_than_the_frequencies_of_its_letters(
    truth: LoadedModel,
) -> None:
    text = MEASURED.read_bytes()[:4096]
    shares = [text.count(byte) / len(text) for byte in set(text)]
    letters = math.exp(-sum(share * math.log(share) for share in shares))
    assert 15 < letters < 30
    assert told(truth).perplexity.value < letters / 2


@pytest.mark.parametrize(
    "options",
    [{"prompt_lookup_num_tokens": 3}, {"cache_implementation": "static"}],
)
def test_what_only_changes_the_speed_changes_no_logit(
    options: dict[str, object], truth: LoadedModel, load: Load
) -> None:
    same = load("transformers", source=TRAINED, quantization="F32", **options)
    found = told(same, truth)
    assert found.kl_divergence is not None
    assert found.kl_divergence.value < 1e-9


@pytest.mark.parametrize(
    "option",
    [{"batching": "continuous"}, {"compile": True, "cache_implementation": "static"}],
)
def test_what_cannot_be_read_as_it_runs_is_refused(
    option: dict[str, object], truth: LoadedModel, load: Load
) -> None:
    del truth
    model = load("transformers", source=TRAINED, quantization="F32", timeout_s=200.0, **option)
    with pytest.raises(EngineRefusal, match="gives no logits: leave it out to read"):
        told(model)


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


def test_a_type_that_is_not_computed_in_is_told(truth: LoadedModel, load: Load) -> None:
    """Seen by the logits: they are the same to the last bit where both compute in bfloat16."""
    del truth
    packed = {"source": TRAINED, "quantize": "nf4", "device": "cpu"}
    usual = load("transformers", **packed, compute_dtype="bfloat16")
    other = load("transformers", **packed, compute_dtype="float32")
    passage = read_passage(usual, MEASURED, TIMEOUT_S)
    ours, theirs = (read_logits(each, passage, 0, TIMEOUT_S) for each in (other, usual))
    caveats = [each for each in other.engine.caveats if "float32 was asked for" in each]
    assert bool(caveats) == bool((ours == theirs).all())
    assert usual.engine.caveats == []


def test_a_quantized_cache_is_read_from_and_tells(truth: LoadedModel, load: Load) -> None:
    """A prompt that is read in one piece is never read from the cache."""
    cache = {"cache_implementation": "quantized", "cache_nbits": 2, "cache_residual_length": 32}
    quantized = told(load("transformers", source=TRAINED, quantization="F32", **cache), truth)
    assert quantized.kl_divergence is not None
    assert quantized.kl_divergence.value > 1e-3


@pytest.mark.parametrize(
    ("residual", "tokens", "words"),
    [
        (256, 512, ""),
        (480, 512, "12% of what 512 tokens read .* Give cache_residual_length=128 or less"),
        (512, 512, "12% of what 512 tokens read .* Give cache_residual_length=128 or less"),
        (256, 32, "32 tokens is read at once, and nothing of it from the quantized cache"),
    ],
)
def test_a_cache_of_which_little_is_quantized_tells_nothing(
    residual: int, tokens: int, words: str, truth: LoadedModel, load: Load
) -> None:
    """All of 512 tokens are quantized in the end where 480 waited: after the last was read."""
    del truth
    cache = {"cache_implementation": "quantized", "cache_residual_length": residual}
    model = load("transformers", source=TRAINED, quantization="F32", **cache)
    passage = read_passage(model, MEASURED, TIMEOUT_S, tokens)
    with pytest.raises(EngineRefusal, match=words) if words else nullcontext():
        read_window(model, passage, 0, TIMEOUT_S, None)


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
    with broken.open("r+b") as file:
        for tensor in read_gguf(whole).tensors:
            if tensor.name.startswith("blk.1.") and "norm" not in tensor.name:
                file.seek(tensor.offset)
                file.write(bytes(tensor.bytes))
    reference = load("llama-cpp", source=TRAINED, quantization="F16")
    good = told(load("llama-cpp", source=str(whole)), reference)
    bad = told(load("llama-cpp", source=str(broken)), reference)
    assert good.kl_divergence is not None
    assert bad.kl_divergence is not None
    limit = 0.003  # that of the suite of quantizations
    assert 10 * limit < bad.kl_divergence.value
    assert good.kl_divergence.value < limit / 2
    assert bad.perplexity.value > 1.02 * good.perplexity.value


def test_what_has_no_tokenizer_is_refused(load: Load, tmp_path: Path) -> None:
    whole = Path(resolve(ModelSpec(TRAINED, "F32"), "hf").path)
    for each in whole.iterdir():
        if not each.name.startswith("tokenizer"):
            (tmp_path / each.name).symlink_to(each)
    model = load("transformers", source=str(tmp_path))
    with pytest.raises(EngineRefusal, match="has no tokenizer"):
        read_passage(model, MEASURED, TIMEOUT_S)
