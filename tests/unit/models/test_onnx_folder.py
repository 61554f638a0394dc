"""What is in a folder of onnxruntime-genai, and is a damaged one told by name?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from pytest_llmperf.fit.size_of_files import size_of_files
from pytest_llmperf.models import (
    BrokenModelFile,
    ModelError,
    ModelNotHere,
    ModelSpec,
    RequirementMissing,
    UnknownQuantization,
    UnsupportedModel,
    resolve,
)
from pytest_llmperf.models.traffic import Traffic, traffic_of

HIDDEN, INNER, VOCABULARY = 64, 128, 100
SETTINGS: dict[str, Any] = {
    "model": {
        "type": "llama",
        "vocab_size": VOCABULARY,
        "context_length": 512,
        "decoder": {
            "filename": "model.onnx",
            "hidden_size": HIDDEN,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_size": 16,
        },
    }
}
BLOCKS = HIDDEN // 32


def stored(name: str, kind: int, *shape: int, offset: int = 0, length: int = 0) -> TensorProto:
    """A tensor whose bytes are in the file beside the graph."""
    tensor = TensorProto(name=name, data_type=kind, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    stated = {"location": "model.onnx.data", "offset": offset, "length": length}
    for key, value in stated.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def packed(name: str, rows: int) -> tuple[list[TensorProto], Any]:
    weight = f"{name}.MatMul.weight"
    tensors = [
        stored(f"{weight}_Q4", TensorProto.UINT8, rows, BLOCKS, 16, length=rows * BLOCKS * 16),
        stored(f"{weight}_scales", TensorProto.FLOAT, rows, BLOCKS, length=rows * BLOCKS * 4),
    ]
    node = helper.make_node(
        "MatMulNBits",
        ["x", f"{weight}_Q4", f"{weight}_scales"],
        [f"{name}.out"],
        name=f"/{name}/MatMul",
        domain="com.microsoft",
        K=HIDDEN,
        N=rows,
        bits=4,
        block_size=32,
    )
    return tensors, node


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table in float32, one packed matrix of a layer, a packed output, a norm, and angles."""
    up, up_node = packed("model.layers.0.mlp.up_proj", INNER)
    head, head_node = packed("lm_head", VOCABULARY)
    table = stored(
        "model.embed_tokens.weight", TensorProto.FLOAT, VOCABULARY, HIDDEN, length=VOCABULARY * 256
    )
    norm = stored("model.layers.0.input_layernorm.weight", TensorProto.FLOAT, HIDDEN, length=256)
    angles = stored("cos_cache", TensorProto.FLOAT, 512, 8, length=512 * 32)
    nodes = [
        helper.make_node("Gather", [table.name, "ids"], ["e"], name="/model/embed_tokens/Gather"),
        helper.make_node("SimplifiedLayerNormalization", ["e", norm.name], ["x"], name="/norm"),
        up_node,
        head_node,
    ]
    graph = helper.make_graph(nodes, "g", [], [], [table, norm, angles, *up, *head])
    onnx.save_model(helper.make_model(graph), tmp_path / "model.onnx")
    (tmp_path / "model.onnx.data").write_bytes(bytes(VOCABULARY * 256))
    (tmp_path / "genai_config.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def test_packed_matrices_count_as_what_they_hold(folder: Path) -> None:
    found = resolve(ModelSpec(str(folder)), "onnx")
    packed_bytes = (INNER + VOCABULARY) * BLOCKS * (16 + 4)
    assert found.quantization == "INT4"
    assert found.type_mix == {
        "INT4": (INNER + VOCABULARY) * HIDDEN,
        "F32": VOCABULARY * HIDDEN + HIDDEN,
    }
    assert found.weight_bytes == packed_bytes + VOCABULARY * 256 + 256
    assert (found.architecture, found.vocab_size, found.context_length) == ("llama", 100, 512)


def test_a_step_reads_all_but_the_table(folder: Path) -> None:
    files = resolve(ModelSpec(str(folder), "INT4"), "onnx")
    found = traffic_of(files)
    assert isinstance(found, Traffic)
    assert found.dense_bytes == files.weight_bytes - VOCABULARY * 256
    assert (found.layer_parameters, found.head_parameters) == (INNER * HIDDEN, VOCABULARY * HIDDEN)
    (attention,) = found.attention
    assert (attention.kv_values, attention.query_values) == (2 * 2 * 16, 4 * 2 * 16)
    assert not found.tied


def test_sizes_are_told_part_by_part(folder: Path) -> None:
    size = size_of_files(resolve(ModelSpec(str(folder)), "onnx"))
    assert size.weights.tables == VOCABULARY * 256
    assert size.weights.layers == (INNER * BLOCKS * 20 + 256,)
    assert size.weights.output == VOCABULARY * BLOCKS * 20
    assert size.inner == INNER


def refusal(folder: Path, quantization: str | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        resolve(ModelSpec(str(folder), quantization), "onnx")
    return caught.value


def change(folder: Path, **decoder: object) -> None:
    settings = json.loads(json.dumps(SETTINGS))
    settings["model"]["decoder"] |= decoder
    (folder / "genai_config.json").write_text(json.dumps(settings))


def test_a_folder_without_settings_says_how_to_make_one(folder: Path) -> None:
    (folder / "genai_config.json").unlink()
    error = refusal(folder)
    assert isinstance(error, ModelNotHere)
    assert "python -m onnxruntime_genai.models.builder" in str(error)


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        ({"head_size": 0}, "its head_size is 0"),
        ({"num_hidden_layers": None}, "its num_hidden_layers is None"),
        ({"filename": "../other/model.onnx"}, "its decoder's filename is '../other/model.onnx'"),
        ({"filename": "gone.onnx"}, "gone.onnx is missing"),
    ],
)
def test_settings_that_cannot_be_are_named(
    folder: Path, decoder: dict[str, object], words: str
) -> None:
    change(folder, **decoder)
    error = refusal(folder)
    assert isinstance(error, BrokenModelFile)
    assert words in str(error)


@pytest.mark.parametrize("text", ["{", "[]", '{"model": {"type": "whisper"}}'])
def test_other_settings_are_refused(folder: Path, text: str) -> None:
    (folder / "genai_config.json").write_text(text)
    assert isinstance(refusal(folder), BrokenModelFile | UnsupportedModel)


def test_a_graph_that_is_none_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph at all")
    assert "model.onnx: is no ONNX graph" in str(refusal(folder))


def test_an_empty_graph_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"")
    assert "model.onnx: holds no matrices" in str(refusal(folder))


def test_what_a_model_with_experts_reads_is_not_guessed(folder: Path) -> None:
    graph = onnx.load_model(folder / "model.onnx", load_external_data=False)
    graph.graph.node.append(helper.make_node("QMoE", ["x"], ["y"], domain="com.microsoft"))
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    found = traffic_of(resolve(ModelSpec(str(folder)), "onnx"))
    assert found == "what a step reads is not known: how QMoE routes tokens is not read here"


def test_weights_outside_of_their_file_are_refused(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(b"short")
    error = refusal(folder)
    assert isinstance(error, BrokenModelFile)
    assert "lies outside of its file" in str(error)


def test_another_quantization_than_it_holds_is_refused(folder: Path) -> None:
    assert isinstance(refusal(folder, "F32"), UnknownQuantization)


def test_without_the_package_that_reads_graphs_its_install_line_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    error = refusal(folder)
    assert isinstance(error, RequirementMissing)
    assert "pip install 'pytest-llmperf[onnxruntime]'" in str(error)
