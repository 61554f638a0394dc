"""What becomes of a model beyond the length that it was trained for, and which scaling helps?

The trained model knows 512 tokens. Its perplexity by length tells what each way of scaling its
rotary positions is worth without further training; with that, each does better. Refuted for such
use: linear scaling, which reads four times worse here at every length, the trained one included.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fit.footprint import RAM
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.worker.pool import LoadedModel

from .conftest import SMALL

pytestmark = pytest.mark.usefixtures("trained_here")

TAUGHT, LONG = 512, 4096
"""Tokens that the trained model has seen at once, and that are asked of it."""
TIMES = LONG // TAUGHT
HEAD = 32  # numbers in a head of the trained model
PROMPT = 512
SHORT: dict[str, Any] = {"prompt_tokens": 16, "new_tokens": 4}
LLAMA_CPP: dict[str, Any] = {
    "source": "trained:small",
    "quantization": "F16",
    "backend": "llama-cpp",
    "n_ctx": LONG,
}
YARN: dict[str, Any] = {
    "rope_scaling_type": "yarn",
    "rope_freq_scale": 1 / TIMES,
    "yarn_orig_ctx": TAUGHT,
}
NTK: dict[str, Any] = {"rope_freq_base": 10000 * TIMES ** (HEAD / (HEAD - 2))}
LINEAR: dict[str, Any] = {"rope_scaling_type": "linear", "rope_freq_scale": 1 / TIMES}
TINY = {"vocab_size": 512, "torch_dtype": "bfloat16", "tie_word_embeddings": True}


def perplexities(measure: Measure, model: LoadedModel, name: str, *lengths: int) -> list[float]:
    """Over windows of each length, of which the second half is scored."""
    return [
        measure(
            model, **SHORT, text="shipped", window_tokens=length, name=f"{name} {length}"
        ).perplexity.median
        for length in lengths
    ]


@pytest.mark.claim("past its trained length a model without scaling loses the thread")
@perf(samples=5)
def test_unscaled_it_loses_the_thread(load_model: LoadModel, measure: Measure) -> None:
    plain = load_model(**LLAMA_CPP)
    trained, _, _, long = perplexities(measure, plain, "plain", TAUGHT, 1024, 2048, LONG)
    assert long > 1.8 * trained


@pytest.mark.claim("scaled by YaRN or NTK it reads on past its trained length")
@perf(samples=5)
@pytest.mark.parametrize(
    "scaling",
    [pytest.param(YARN, id="yarn", marks=pytest.mark.quick), pytest.param(NTK, id="ntk")],
)
def test_scaled_it_reads_on(
    load_model: LoadModel, measure: Measure, scaling: dict[str, Any]
) -> None:
    scaled, plain = load_model(**LLAMA_CPP, **scaling), load_model(**LLAMA_CPP)
    short, long = perplexities(measure, scaled, "scaled", TAUGHT, LONG)
    at_home, lost = perplexities(measure, plain, "plain", TAUGHT, LONG)
    assert long < 1.5 * short
    assert long < 0.75 * lost
    assert 1.02 * at_home < short < 1.35 * at_home  # what it costs where it is not needed


@pytest.mark.claim(
    "linear scaling extends the context",
    instead="without further training it reads worse at every length, the trained one included",
)
@perf(samples=5)
def test_linear_scaling_wants_training(load_model: LoadModel, measure: Measure) -> None:
    scaled, plain = load_model(**LLAMA_CPP, **LINEAR), load_model(**LLAMA_CPP)
    short, long = perplexities(measure, scaled, "linear", TAUGHT, LONG)
    (at_home,) = perplexities(measure, plain, "plain", TAUGHT)
    assert long < 1.2 * short  # the length no longer matters
    assert short > 2 * at_home  # but nothing is read well


@pytest.mark.claim("a context past the trained length takes the memory that is predicted")
@perf(samples=5)
def test_memory_beyond_the_trained_length_is_as_predicted(
    load_model: LoadModel, measure: Measure
) -> None:
    """Of a model that was made for 2048 tokens, because of a tiny one the engine's own is most."""
    twice: dict[str, Any] = {"n_ctx": 4096, "rope_scaling_type": "yarn", "rope_freq_scale": 0.5}
    model = load_model(SMALL, backend="llama-cpp", quantization="Q8_0", n_gpu_layers=0, **twice)
    seen = measure(model, prompt_tokens=512, new_tokens=4)
    assert seen.expected is not None
    assert seen.ram.median * 2**30 in seen.expected.footprint.on(RAM).total


@pytest.mark.claim("dynamic NTK costs nothing within the trained length, and helps past it")
@perf(samples=5)
def test_dynamic_ntk_costs_nothing_where_it_is_not_needed(
    load_model: LoadModel, measure: Measure, tmp_path: Path
) -> None:
    """Transformers scales by the length at hand; told by the model's configuration."""
    told = {}
    for rope in ("default", "linear", "dynamic"):
        model = load_model(rescaled(load_model, tmp_path / rope, rope), backend="transformers")
        told[rope] = perplexities(measure, model, rope, TAUGHT, 2 * TAUGHT)
    (at_home, lost), (linear, _), (short, long) = told.values()
    assert linear > 1.5 * at_home
    assert short == pytest.approx(at_home, rel=1e-3)
    assert long < 0.97 * lost


@pytest.mark.quick
@pytest.mark.claim("ALiBi has no last position, learned positions do")
@perf(samples=5)
def test_alibi_has_no_last_position_and_learned_positions_do(
    load_model: LoadModel, measure: Measure, tmp_path: Path
) -> None:
    """How well it reads there is not testable on random weights."""
    shape = {"hidden_size": 128, "n_layer": 2, "n_head": 4}
    learned = {**TINY, "model_type": "gpt2", "n_embd": 128, "n_layer": 2, "n_head": 4}
    alibi = made_of(tmp_path / "alibi.json", {**TINY, **shape, "model_type": "bloom"})
    fixed = made_of(tmp_path / "learned.json", {**learned, "n_positions": TAUGHT})
    eager: dict[str, Any] = {"backend": "transformers", "attn_implementation": "eager"}
    measure(load_model(alibi, **eager), prompt_tokens=2 * TAUGHT, new_tokens=8)
    with pytest.raises(pytest.fail.Exception, match="need a context of 1032"):
        measure(load_model(fixed, backend="transformers"), prompt_tokens=2 * TAUGHT, new_tokens=8)


@pytest.mark.claim("a sliding window bounds the cache")
@perf(samples=5)
def test_a_sliding_window_bounds_the_cache(
    load_model: LoadModel, measure: Measure, tmp_path: Path
) -> None:
    """A static one, that is: a dynamic one keeps a prompt's keys until the next token is there."""
    shape = {**TINY, "model_type": "mistral", "hidden_size": 256, "intermediate_size": 256}
    shape |= {"num_hidden_layers": 8, "num_attention_heads": 32, "num_key_value_heads": 32}
    shape |= {"head_dim": 64, "max_position_embeddings": LONG}
    held = {}
    for window in (64, LONG):
        source = made_of(tmp_path / f"window-{window}.json", {**shape, "sliding_window": window})
        model = load_model(source, backend="transformers", cache_implementation="static")
        seen = measure(model, prompt_tokens=PROMPT, new_tokens=4, name=f"window of {window}")
        assert seen.memory is not None
        assert seen.memory.decode is not None
        held[window] = seen.memory.decode.bytes
    cache_bytes = 8 * 2 * 32 * 64 * 2  # layers, keys and values, heads, head, bytes: of a token
    assert held[LONG] - held[64] > 0.7 * cache_bytes * (PROMPT - 64)


def rescaled(load_model: LoadModel, folder: Path, rope_type: str) -> Path:
    """The trained model, told to read twice as much."""
    files = load_model("trained:small", backend="transformers", quantization="F32").files
    assert files is not None
    shutil.copytree(files.path, folder)
    config = json.loads((folder / "config.json").read_text())
    scaling = {"rope_type": rope_type, "rope_theta": config.pop("rope_theta")}
    if rope_type == "dynamic":
        config["rope_parameters"] = scaling | {"factor": 2.0}  # of what was trained, which stays
    else:
        config["rope_parameters"] = scaling | ({"factor": 2.0} if rope_type == "linear" else {})
        config["max_position_embeddings"] *= 2
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def made_of(path: Path, config: dict[str, Any]) -> str:
    """The source of a synthetic model of this configuration."""
    path.write_text(json.dumps(config))
    return f"synthetic:{path}"
