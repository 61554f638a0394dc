"""Do llama.cpp and transformers see the same model, and is it one that can be measured?"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_llmperf.models import Format, ModelSpec, UnsupportedModel, resolve
from tests.unit.models.conftest import ConfigWriter

pytestmark = pytest.mark.engine

LLAMA_CPP = """
import json, sys
import numpy as np
from llama_cpp import Llama

def answer(task):
    model = Llama(task["path"], n_ctx=256, n_gpu_layers=0, logits_all=True, verbose=False,
                  type_k=0, type_v=0)  # keys and values in float32
    if "ids" in task:
        model.eval(task["ids"])
        np.save(task["out"], model.scores[: len(task["ids"])])
        return {}
    if "texts" in task:
        ids = [model.tokenize(text.encode(), add_bos=True) for text in task["texts"]]
        return [(some, model.detokenize(some).decode()) for some in ids]
    start = model.tokenize(b"the quick brown fox")
    steps = model.generate(start, temp=0, top_k=1, repeat_penalty=1.0)
    return [token for token, _ in zip(steps, range(task["greedy"]))]

print(json.dumps([answer(task) for task in json.loads(sys.argv[1])]))
"""

TRANSFORMERS = """
import json, sys
import numpy as np, torch, transformers

def answer(task):
    if "texts" in task:
        tokenizer = transformers.AutoTokenizer.from_pretrained(task["path"])
        ids = [tokenizer.encode(text) for text in task["texts"]]
        return [(some, tokenizer.decode(some)) for some in ids]
    model, notes = transformers.AutoModelForCausalLM.from_pretrained(
        task["path"], dtype=torch.float32, output_loading_info=True)
    with torch.inference_mode():
        if "ids" in task:
            np.save(task["out"], model(torch.tensor([task["ids"]])).logits[0].numpy())
            return {key: sorted(map(str, value)) for key, value in notes.items() if value}
        start = torch.tensor([[1, 2, 3]])
        ids = model.generate(start, max_new_tokens=task["greedy"], do_sample=False)
        return ids[0, 3:].tolist()

print(json.dumps([answer(task) for task in json.loads(sys.argv[1])]))
"""


def run(program: str, *tasks: dict[str, Any]) -> list[Any]:
    """Have all tasks done in one process of the engine, and return an answer for each."""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(tasks)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(answers, list)
    return answers


LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama-gqa": {},
    "llama-3.1": {
        "head_dim": 32,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rope_scaling": LLAMA_3,
    },
    "llama-linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "mistral": {"model_type": "mistral", "sliding_window": 4096},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6},
    "qwen3": {"model_type": "qwen3", "head_dim": 32},
    "phi": {"model_type": "phi", "num_key_value_heads": 4, "partial_rotary_factor": 0.5},
}


def test_both_engines_compute_the_same_logits(tiny: ConfigWriter, tmp_path: Path) -> None:
    chosen = random.Random(1)
    ids = [chosen.randrange(512) for _ in range(48)]
    tasks: dict[Format, list[dict[str, Any]]] = {"hf": [], "gguf": []}
    for name, changes in VARIANTS.items():
        spec = ModelSpec(tiny(**changes), "F32")
        for format_, listed in tasks.items():
            path = resolve(spec, format_).path
            listed.append({"path": path, "ids": ids, "out": f"{tmp_path}/{name}-{format_}.npy"})
    notes = run(TRANSFORMERS, *tasks["hf"])
    run(LLAMA_CPP, *tasks["gguf"])
    assert notes == [{}] * len(VARIANTS), "a tensor is missing, unexpected or of another shape"
    for name in VARIANTS:
        a, b = (np.load(tmp_path / f"{name}-{format_}.npy") for format_ in ("hf", "gguf"))
        assert np.isfinite(a).all(), name
        assert 0.5 < a.std() < 2.0, name
        cosines = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        assert cosines.min() > 0.9995, name
        assert (a.argmax(-1) == b.argmax(-1)).all(), name


TEXTS = [
    "Hello, wörld! 🎉 the thing\n\t\x01 x  y   z '’s I'll 12345 日本語 \u200b\ufeff é e\u0301",
    "".join(map(chr, range(1, 0x250))),
    "  leading and trailing  ",
    "def f(x):\r\n\treturn {x: 'th', \"y\": -1.5e-9}\n\n\n",
    "".join(chr(random.Random(0).choice(range(0x1F300, 0x1F600))) for _ in range(50)),
]


def test_any_text_comes_back_unchanged_from_both_tokenizers(tiny: ConfigWriter) -> None:
    spec = ModelSpec(tiny(), "F16")
    (theirs,) = run(TRANSFORMERS, {"path": resolve(spec, "hf").path, "texts": TEXTS})
    (ours,) = run(LLAMA_CPP, {"path": resolve(spec, "gguf").path, "texts": TEXTS})
    assert [text for _, text in theirs] == TEXTS
    assert ours == theirs
    assert 258 in ours[0][0], "'th' is one token"


def test_greedy_decoding_neither_sticks_nor_ends() -> None:
    found = resolve(ModelSpec("synthetic:llama-15m", "Q8_0"), "gguf")
    (tokens,) = run(LLAMA_CPP, {"path": found.path, "greedy": 128})
    assert len(tokens) == 128
    assert len(set(tokens)) > 64
    assert max(len(list(same)) for _, same in itertools.groupby(tokens)) < 16


def test_an_architecture_we_do_not_write_is_made_by_transformers(tiny: ConfigWriter) -> None:
    ours = resolve(ModelSpec(tiny()), "hf")
    theirs = resolve(ModelSpec(tiny(model_type="gpt_neox")), "hf")
    assert (theirs.architecture, theirs.quantization) == ("gpt_neox", "BF16")
    tasks = [{"path": found.path, "greedy": 32} for found in (ours, theirs)]
    assert [len(tokens) for tokens in run(TRANSFORMERS, *tasks)] == [32, 32]


def test_a_model_type_that_transformers_does_not_know_is_refused(tiny: ConfigWriter) -> None:
    with pytest.raises(UnsupportedModel, match="no causal language model of model_type 'nonsense'"):
        resolve(ModelSpec(tiny(model_type="nonsense")), "hf")
